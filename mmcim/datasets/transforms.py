# Copyright (c) mmcim contributors. All rights reserved.
"""Image transforms that run in the data-loader workers."""

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
