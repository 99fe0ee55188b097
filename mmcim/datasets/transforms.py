# Copyright (c) mmcim contributors. All rights reserved.
"""Image transforms that run in the data-loader workers."""

import math
from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger
from mmengine.utils import to_2tuple
from mmpretrain.datasets.transforms import BEiTMaskGenerator, RandomResizedCrop
from mmpretrain.registry import TRANSFORMS

from ..utils.errors import ConfigError
from .image_files import read_image


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image by :func:`~mmcim.datasets.read_image`, or name the file.

    ``LoadImageFromFile`` stops a run with a bare ``AssertionError`` at the first
    truncated image, even with ``ignore_empty=True``.

    Args:
        ignore_empty: What to do with an image that cannot be read. If True, warn once
            for every file (in every worker process) and return None, on which the
            dataset takes another image at random; this is for training only, since a
            dataset with ``test_mode=True`` refuses None. If False, raise an error.
        backend_args: Of :func:`mmengine.fileio.get`.

    Raises:
        ConfigError: If the file is missing or cannot be decoded, with its name.
    """

    def __init__(
        self, ignore_empty: bool = False, backend_args: dict | None = None
    ) -> None:
        self.ignore_empty = ignore_empty
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict | None:
        """Add ``img``, ``img_shape`` and ``ori_shape`` to the results.

        Args:
            results: Has ``img_path``, the file's path or address.

        Returns:
            The results, ``img`` being (H, W, 3), uint8, BGR; None for an image that
            cannot be read with ``ignore_empty=True``.
        """
        if 'img' in results:
            return results  # mmpretrain's inferencers read images themselves
        try:
            img = read_image(results['img_path'], self.backend_args)
        except ConfigError as error:
            if not self.ignore_empty:
                raise
            # mmengine's loggers show a repeated warning once.
            MMLogger.get_current_instance().warning(f'{error}. Another one is used.')
            return None
        results['img'] = img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results


@TRANSFORMS.register_module()
class RandomResizedCropTwoSizes(RandomResizedCrop):
    """Cut one random box and resize it to two sizes, as BEiT's pipeline does.

    The first image is for the models, the second for the tokenizer (CIM, section 3;
    BEiT, section 2.1). Both are resized by Pillow, whose filters are
    antialiased; mmpretrain's ``RandomResizedCropAndInterpolationWithTwoPic``
    resizes with OpenCV, which is not, and its boxes never reach the right and the
    lower border.

    Args:
        scale: Size of the first image, (h, w).
        second_scale: Size of the second image, (h, w).
        interpolation: Filter for the first image.
        second_interpolation: Filter for the second image.
        **kwargs: ``crop_ratio_range``, ``aspect_ratio_range`` and ``max_attempts`` of
            mmpretrain's ``RandomResizedCrop``.
    """

    def __init__(
        self,
        scale: int | Sequence[int] = 224,
        second_scale: int | Sequence[int] = 112,
        interpolation: str = 'bicubic',
        second_interpolation: str = 'lanczos',
        **kwargs,
    ) -> None:
        super().__init__(scale, interpolation=interpolation, backend='pillow', **kwargs)
        self.second_scale = to_2tuple(second_scale)
        self.second_interpolation = second_interpolation

    def transform(self, results: dict) -> dict:
        """Replace ``img``, uint8 (H, W, 3), by a list of the two images.

        ``img_shape`` becomes the (h, w) of the first.
        """
        img = results['img']
        top, left, height, width = self.rand_crop_params(img)
        crop = img[top : top + height, left : left + width]
        results['img'] = [
            mmcv.imresize(crop, tuple(size[::-1]), interpolation=kind, backend='pillow')
            for size, kind in (
                (self.scale, self.interpolation),
                (self.second_scale, self.second_interpolation),
            )
        ]
        results['img_shape'] = tuple(self.scale)
        return results


@TRANSFORMS.register_module()
class RandomAffine(BaseTransform):
    """Rotate, shift, scale and shear an image at random about its centre.

    One warp does all four (bilinear), so that a small image costs about 50
    microseconds. Every quantity is drawn uniformly and independently.

    Args:
        degrees: Rotate by at most this angle, to both sides.
        translate: Shift by at most this fraction of the image's width and height, to all
            sides.
        scale: Range of the magnification.
        shear: Slant the columns by at most this angle in degrees, to both sides.
        fill: Value of the pixels that come from outside the image, on its own scale.
    """

    def __init__(
        self,
        degrees: float = 0.0,
        translate: float = 0.0,
        scale: Sequence[float] = (1.0, 1.0),
        shear: float = 0.0,
        fill: float = 0.0,
    ) -> None:
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f'scale must be (min, max) with 0 < min <= max: {scale}')
        self.degrees = degrees
        self.translate = translate
        self.scale = tuple(scale)
        self.shear = shear
        self.fill = fill

    def random_matrix(self, height: int, width: int) -> np.ndarray:
        """Draw the matrix (2, 3) that maps source (x, y, 1) to target (x, y)."""
        angle, shift_x, shift_y, slant = np.random.uniform(-1, 1, 4)
        angle = math.radians(self.degrees * angle)
        slant = math.tan(math.radians(self.shear * slant))
        scale = np.random.uniform(self.scale[0], self.scale[1])
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        linear = np.array([[cos, cos * slant - sin], [sin, sin * slant + cos]])
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = self.translate * np.array([shift_x * width, shift_y * height])
        return np.column_stack([linear, centre + shift - linear @ centre])

    def transform(self, results: dict) -> dict:
        """Warp ``img``, an array (H, W) or (H, W, C); its size does not change."""
        img = results['img']
        height, width = img.shape[:2]
        results['img'] = cv2.warpAffine(
            img,
            self.random_matrix(height, width),
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(self.fill,) * 4,
        )
        return results


@TRANSFORMS.register_module()
class BEiTBlockMask(BEiTMaskGenerator):
    """BEiT's blockwise mask, in which every patch can be masked.

    mmpretrain's ``BEiTMaskGenerator`` draws a block's corner with an exclusive upper
    bound where BEiT's code has an inclusive one, so that the last row and the last
    column of the grid are never masked. Apart from that both are the same (BEiT,
    algorithm 1): exactly ``num_masking_patches`` are masked, 1 = masked.
    """

    def _mask(self, mask: np.ndarray, max_mask_patches: int) -> int:
        """Mask one more block in place; return the number of newly masked patches."""
        for _ in range(10):
            area = np.random.uniform(self.min_num_patches, max_mask_patches)
            aspect = math.exp(np.random.uniform(*self.log_aspect_ratio))
            height = round(math.sqrt(area * aspect))
            width = round(math.sqrt(area / aspect))
            if height >= self.height or width >= self.width:
                continue
            top = np.random.randint(self.height - height + 1)
            left = np.random.randint(self.width - width + 1)
            block = mask[top : top + height, left : left + width]
            new = block.size - int(block.sum())
            if 0 < new <= max_mask_patches:
                block[:] = 1
                return new
        return 0
