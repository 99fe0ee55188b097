# Copyright (c) mmcim contributors. All rights reserved.
"""Random crops, affine maps and masks."""

import math
from collections.abc import Sequence

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.datasets.transforms import BEiTMaskGenerator, RandomResizedCrop
from mmpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomResizedCropTwoPictures(RandomResizedCrop):
    """Cut one random box and resize it to two pictures, as BEiT's pipeline does.

    The first picture is for the networks, the second for the tokenizer (CIM,
    section 3; BEiT, section 2.1). Both are resized by Pillow, whose filters are
    antialiased; mmpretrain's ``RandomResizedCropAndInterpolationWithTwoPic``
    resizes with OpenCV, which is not, and its boxes never reach the right and the
    lower border.

    Args:
        scale (int | Sequence[int]): Size of the first picture, (h, w).
            Defaults to 224.
        second_scale (int | Sequence[int]): Size of the second picture, (h, w).
            Defaults to 112.
        crop_ratio_range (Sequence[float]): Range of the box's area as a fraction
            of the picture's. Defaults to (0.08, 1.0).
        aspect_ratio_range (Sequence[float]): Range of the box's width / height.
            Defaults to (3 / 4, 4 / 3).
        interpolation (str): Filter for the first picture. Defaults to 'bicubic'.
        second_interpolation (str): Filter for the second picture.
            Defaults to 'lanczos'.
    """

    def __init__(
        self,
        scale: int | Sequence[int] = 224,
        second_scale: int | Sequence[int] = 112,
        crop_ratio_range: Sequence[float] = (0.08, 1.0),
        aspect_ratio_range: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = 'bicubic',
        second_interpolation: str = 'lanczos',
    ) -> None:
        super().__init__(
            scale,
            crop_ratio_range=crop_ratio_range,
            aspect_ratio_range=aspect_ratio_range,
            interpolation=interpolation,
            backend='pillow',
        )
        if isinstance(second_scale, int):
            second_scale = (second_scale, second_scale)
        self.second_scale = second_scale
        self.second_interpolation = second_interpolation

    def transform(self, results: dict) -> dict:
        """Replace ``img`` by a list of the two pictures.

        Args:
            results (dict): Has ``img``, uint8 of shape (H, W, 3).

        Returns:
            dict: The results; ``img`` is a list of two uint8 arrays, ``img_shape``
            the (h, w) of the first.
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

    def __repr__(self) -> str:
        return (
            f'{super().__repr__()[:-1]}, second_scale={self.second_scale}, '
            f'second_interpolation={self.second_interpolation})'
        )


@TRANSFORMS.register_module()
class RandomAffine(BaseTransform):
    """Rotate, shift, scale and shear a picture at random about its centre.

    One warp does all four (bilinear), so that a small picture costs about 50
    microseconds. Every quantity is drawn uniformly and independently.

    Args:
        degrees (float): Rotate by at most this angle, to both sides. Defaults to 0.
        translate (float): Shift by at most this fraction of the picture's width
            and height, to all sides. Defaults to 0.
        scale (Sequence[float]): Range of the magnification. Defaults to (1, 1).
        shear (float): Slant the columns by at most this angle in degrees, to both
            sides. Defaults to 0.
        fill (float): Value of the pixels that come from outside the picture, on the
            picture's own scale. Defaults to 0.
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
        scale = np.random.uniform(*self.scale)
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

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(degrees={self.degrees}, '
            f'translate={self.translate}, scale={self.scale}, '
            f'shear={self.shear}, fill={self.fill})'
        )


@TRANSFORMS.register_module()
class BEiTBlockMask(BEiTMaskGenerator):
    """BEiT's blockwise mask, in which every position can be masked.

    mmpretrain's ``BEiTMaskGenerator`` draws a block's corner with an exclusive upper
    bound where BEiT's code has an inclusive one, so that the last row and the last
    column of the grid are never masked. Apart from that both are the same (BEiT,
    algorithm 1): exactly ``num_masking_patches`` positions are masked, 1 = masked.
    """

    def _mask(self, mask: np.ndarray, max_mask_patches: int) -> int:
        """Mask one more block in place; return the number of new positions."""
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
