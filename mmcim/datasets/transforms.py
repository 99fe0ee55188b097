# Copyright (c) mmcim contributors. All rights reserved.
"""Image transforms that run in the data-loader workers."""

import os
from collections.abc import Iterator
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger
from mmpretrain.registry import TRANSFORMS

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
