# Copyright (c) mmcim contributors. All rights reserved.
"""Image transforms that run in the data-loader workers."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger
from mmpretrain.datasets import RandomResizedCrop, ResizeEdge
from mmpretrain.registry import TRANSFORMS
from torch.nn import functional as F

from ..utils.errors import ConfigError
from .image_files import read_image


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image by :func:`~mmcim.datasets.read_image`, or name the file.

    ``LoadImageFromFile`` stops a run with a bare ``AssertionError`` at the first
    truncated image, even with ``ignore_empty=True``.

    Args:
        ignore_empty: What to do with an image that cannot be read. If True, warn and
            return None, on which the dataset takes another image at random; this is for
            training only, since a dataset with ``test_mode=True`` refuses None. If False,
            raise an error.
        max_skipped: The fraction of the images of a training that may be unreadable; one
            image always may.
        backend_args: Of :func:`mmengine.fileio.get`.

    Attributes:
        skipped: File that lists the images left out, each once, of all processes that
            write to it; see :func:`list_skipped`.
        num_images: Of the dataset, which the fraction is of.

    Raises:
        ConfigError: If the file is missing or cannot be decoded, with its name, or if too
            many have been skipped.
    """

    def __init__(
        self,
        ignore_empty: bool = False,
        max_skipped: float = 0.05,
        backend_args: dict | None = None,
    ) -> None:
        self.ignore_empty = ignore_empty
        self.max_skipped = max_skipped
        self.backend_args = backend_args
        self.skipped = os.devnull
        self.num_images = 0

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
            self._skip(str(results['img_path']), error)
            return None
        results['img'] = img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results

    def _skip(self, path: str, error: ConfigError) -> None:
        """Count an image, unless a process has done so before."""
        with open(self.skipped, 'a+', errors='surrogateescape') as file:
            file.seek(0)
            listed = file.read().splitlines()
            if path in listed:
                return
            file.write(f'{path}\n')
        # mmengine's loggers show a repeated warning once.
        logger = MMLogger.get_current_instance()
        extra = dict(event='skipped_image')
        logger.warning(f'{error}. Another one is used.', extra=extra)
        number = len(listed) + 1
        if self.num_images and number > max(self.max_skipped * self.num_images, 1):
            raise ConfigError(
                f'{number} of {self.num_images} images are unreadable, more than '
                f'max_skipped={self.max_skipped} of them, listed in {self.skipped}; '
                f'replace or remove them. The last: {error}'
            )


def resize_image(
    image: np.ndarray, size: tuple[int, int], mode: str = 'bicubic'
) -> np.ndarray:
    """Resize an image by Pillow's filter, which gets wider with the reduction.

    Equals ``PIL.Image.resize`` up to rounding, 0.02 of 255 levels on average, and takes a
    third of its time. Pillow 13 takes the height first where that is less work. It rounds
    and clips other values then: 0.3 levels, and up to 10 beside the sharpest edges.

    Args:
        image: (H, W) or (H, W, C), uint8; it may be a view of a larger one.
        size: Height and width.
        mode: 'bicubic' or 'bilinear'.

    Returns:
        ``(*size)`` or ``(*size, C)``, uint8. Of a crop the channels are apart in memory,
        as ``PackInputs`` wants them: to interleave them takes as long as half a resize.
    """
    if min(image.strides) < 0:  # of a flip, which PyTorch does not take
        image = np.ascontiguousarray(image)
    planes = torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size, mode=mode, antialias=True)[0]  # (C, *size)
    return resized.permute(1, 2, 0).numpy().reshape(*size, *image.shape[2:])


@TRANSFORMS.register_module()
class AntialiasedRandomResizedCrop(RandomResizedCrop):
    """mmpretrain's ``RandomResizedCrop``, which resizes by :func:`resize_image`.

    The interpolation is 'bicubic' or 'bilinear'; ``backend`` has no effect.
    """

    def transform(self, results: dict) -> dict:
        """Replace ``img`` by a random crop of it, and ``img_shape``."""
        top, left, height, width = self.rand_crop_params(results['img'])
        crop = results['img'][top : top + height, left : left + width]
        results['img'] = resize_image(crop, self.scale, self.interpolation)
        results['img_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class AntialiasedResizeEdge(ResizeEdge):
    """mmpretrain's ``ResizeEdge``, which resizes by :func:`resize_image`.

    The interpolation is 'bicubic' or 'bilinear'; ``backend`` has no effect.
    """

    def _resize_img(self, results: dict) -> None:
        """Replace ``img`` by one of ``results['scale']``, width first, and its sizes."""
        (width, height), old = results['scale'], results['img'].shape
        results['img'] = resize_image(results['img'], (height, width), self.interpolation)
        results['img_shape'] = height, width
        results['scale_factor'] = width / old[1], height / old[0]


def list_skipped(dataset: Any, path: str) -> None:
    """Let a dataset, and those that it wraps, list the images that it skips in a file."""
    for transform in transforms_of(dataset):
        if isinstance(transform, LoadImage):
            transform.skipped, transform.num_images = path, len(dataset)


def transforms_of(dataset: Any) -> Iterator[Any]:
    """Give the transforms of a dataset, and of those that it wraps."""
    yield from getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    for part in (getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())):
        if part is not None:
            yield from transforms_of(part)
