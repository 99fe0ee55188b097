# Copyright (c) mmcim contributors. All rights reserved.
"""Image transforms that run in the data-loader workers."""

from collections.abc import Sequence

import mmcv
from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger
from mmengine.utils import to_2tuple
from mmpretrain.datasets.transforms import RandomResizedCrop
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
