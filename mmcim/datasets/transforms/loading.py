# Copyright (c) mmcim contributors. All rights reserved.
"""Reading picture files."""

import cv2
import mmcv
import mmengine.fileio as fileio
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import MMLogger
from mmpretrain.registry import TRANSFORMS

# What a missing, unreadable, truncated or garbage file makes the file backends
# and the decoders raise (Pillow: OSError, and SyntaxError for a broken PNG).
_READ_ERRORS = (OSError, ValueError, SyntaxError, cv2.error)


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load a picture as a uint8 BGR array (H, W, 3), and name the file if it fails.

    ``LoadImageFromFile`` stops a run with a bare ``AssertionError`` at the first
    truncated or garbage picture, even with ``ignore_empty=True``. This loader
    treats every picture that cannot be read in the same way.

    With the default ``color_type='color'`` and ``imdecode_backend='cv2'``

    - grey pictures get three equal channels;
    - palette and CMYK pictures are converted to colours;
    - an alpha channel is dropped, the colours under it are kept as stored;
    - 16-bit pictures keep their upper 8 bits, ``value // 256``. A 12-bit scan in
      a 16-bit file therefore comes out almost black: stretch its range beforehand;
    - pictures with 32-bit or floating-point channels are an error: what is black
      and white in them is not known, convert them to 8 bits beforehand;
    - the EXIF orientation is applied.

    Args:
        ignore_empty (bool): What to do with a picture that cannot be read. If
            True, warn once for every file (in every worker process) and return
            None, on which the dataset takes another picture at random; this is for
            training only, since a dataset with ``test_mode=True`` refuses None. If
            False, raise an error. Defaults to False.
        **kwargs: Other arguments of :class:`mmcv.transforms.LoadImageFromFile`.

    Raises:
        OSError: If the file is missing or cannot be decoded, with its name.
    """

    def transform(self, results: dict) -> dict | None:
        """Add ``img``, ``img_shape`` and ``ori_shape`` to the results.

        Args:
            results (dict): Has ``img_path``, the file's path or address.

        Returns:
            dict | None: The results; None for a picture that cannot be read with
            ``ignore_empty=True``.
        """
        if 'img' in results:
            return results  # mmpretrain's inferencers read pictures themselves
        path = results['img_path']
        try:
            img = mmcv.imfrombytes(
                fileio.get(path, backend_args=self.backend_args),
                flag=self.color_type,
                backend=self.imdecode_backend,
            )
            # OpenCV returns None for most broken files instead of raising.
            if img is None:
                raise OSError('it is truncated, damaged or of an unsupported format')
        except _READ_ERRORS as error:
            message = f'Cannot read the picture "{path}": {error}.'
            if not self.ignore_empty:
                raise OSError(
                    f'{message} Repair or remove the file, or skip such files in '
                    f"training with dict(type='{type(self).__name__}', "
                    'ignore_empty=True) in the pipeline.'
                ) from error
            # mmengine's loggers show a repeated warning once.
            MMLogger.get_current_instance().warning(
                f'{message} Another picture is taken in its place.'
            )
            return None
        if self.to_float32:
            img = img.astype('float32')
        results['img'] = img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results
