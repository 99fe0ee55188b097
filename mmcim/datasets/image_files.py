# Copyright (c) mmcim contributors. All rights reserved.
"""Which files of a folder are images, and what is in them.

Training, features, checks and visualization all list and read images here.
"""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from mmengine import fileio
from mmengine.logging import MMLogger
from PIL import Image, ImageOps

from ..utils.errors import ConfigError
from .packed import list_packed, locate, read_packed

EXTENSIONS = (
    '.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
)  # fmt: skip


class Listing(NamedTuple):
    """The images of a folder; printed, their number and what was left out.

    Attributes:
        files: Paths below the folder, sorted.
        folders: Likewise, those without images included.
        left_out: Reason -> how many files or folders; hidden ones are not counted.
    """

    files: list[str]
    folders: list[str]
    left_out: Counter[str]

    @property
    def classes(self) -> list[str]:
        """The folders directly below it."""
        return [name for name in self.folders if os.sep not in name]

    def __str__(self) -> str:
        reasons = ', '.join(f'{why} ({n})' for why, n in self.left_out.most_common())
        found = f'{len(self.files)} images in {len(self.classes)} classes'
        return f'{found}; left out: {reasons}' if reasons else found


def list_images(folder: str | Path, by_class: bool = False) -> Listing:
    """List the images in a folder and in all folders below it.

    Hidden files and folders (``.name``) are skipped. Links are followed, but every folder
    is listed once, under its own name where it has one below ``folder``. Whatever is left
    out is logged in one line, counted by reason.

    Args:
        folder: A local folder, or one in a packed folder, see
            :mod:`mmcim.datasets.packed`. Names need not be UTF-8.
        by_class: Whether to leave out images that are in no folder below this one.

    Returns:
        The listing, the same for the same files on any file system.

    Raises:
        ConfigError: If it is not a folder, or has no images.
    """
    packed, inner = locate(folder)
    if not packed and not os.path.isdir(folder):
        raise ConfigError(f'{folder} is not a folder')
    left_out = Counter[str]()
    found = list_packed(packed, inner) if packed else _scan(os.fspath(folder), left_out)
    files, folders = (sorted(filter(None, names)) for names in found)
    if by_class:
        outside = [name for name in files if os.sep not in name]
        files = [name for name in files if os.sep in name]
        left_out += Counter({'images outside the class folders': len(outside)})
    listing = Listing(files, folders, left_out)
    if not files:
        raise ConfigError(f'{folder} has no images ({", ".join(EXTENSIONS)}): {listing}')
    if left_out:
        MMLogger.get_current_instance().warning(f'{folder}: {listing}')
    return listing


def _scan(folder: str, left_out: Counter[str]) -> tuple[list[str], list[str]]:
    """Give images and folders by their paths below a folder, and count the rest."""
    files, folders, seen = [], [], set()
    # Linked folders come last, so that folders are listed under their own names.
    top = os.path.join(folder, '')
    pending = [top]
    for start in pending:
        walk = os.walk(start, onerror=lambda _: left_out.update(['unreadable folders']))
        for path, inner, names in walk:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                left_out['links to listed folders'] += 1
                inner.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            folders.append(path.removeprefix(top))
            inner[:] = sorted(name for name in inner if not name.startswith('.'))
            linked = (os.path.join(path, name) for name in inner)
            pending += filter(os.path.islink, linked)
            for name in (name for name in names if not name.startswith('.')):
                extension = os.path.splitext(name)[1].lower()
                if extension not in EXTENSIONS:
                    left_out[extension or 'no extension'] += 1
                else:
                    files.append(os.path.join(folders[-1], name))
    return files, folders


def read_image(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """Read an image as training does: upright, in colour, with 8 bits.

    - The EXIF orientation is applied.
    - Grey images get three equal channels; palettes and CMYK are converted.
    - Alpha and transparent palette entries are dropped, and the colours under them kept
      as stored. (In TIFF files with straight alpha, black shines through.)
    - 16-bit images keep their upper 8 bits, ``value // 256``. A 12-bit scan in a 16-bit
      file therefore comes out almost black: stretch its range beforehand.
    - Signed, 32-bit and floating-point images are refused: which of their values are
      black and white is not known.

    Equals mmcv's ``LoadImageFromFile``, apart from its rounding of 16-bit colour TIFFs
    (by at most 1) and from the signed images that it takes.

    Args:
        path: The path or address of a file, which may be in a packed folder.
        backend_args: Of :func:`mmengine.fileio.get`.

    Returns:
        (H, W, 3), uint8, BGR.

    Raises:
        ConfigError: If the file is missing, damaged or refused, with its path.
    """
    path = os.fspath(path)
    try:
        packed, inner = locate(path)
        found = read_packed(packed, inner) if packed else fileio.get(path, backend_args)
        content = np.frombuffer(found, np.uint8)
        if not content.size:
            raise OSError('it is empty or missing')
        # OpenCV gives None for most files that it cannot read.
        image = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is not None and image.dtype == np.uint16:
            image = (image // 256).astype(np.uint8)
        if image is None or image.dtype != np.uint8 or image.shape[2:] != (3,):
            problems = 'damaged, of an unknown format, or not of 8 or 16 bits unsigned'
            raise OSError(f'it is truncated, {problems}')
    except (OSError, cv2.error) as error:
        raise _unreadable(path, error) from error
    return image


def fit_image(image: str | Path | Image.Image, size: tuple[int, int]) -> Image.Image:
    """Read, rotate, resize and crop an image as a network sees it in a test.

    Args:
        image: A file, see :func:`read_image`, or an image with 8 bits.
        size: Height and width. A bicubic filter resizes the image to cover them, and
            what remains at the longer side is cropped at both ends.

    Returns:
        In RGB.

    Raises:
        ConfigError: If it cannot be read, with its path if it is known.
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(read_image(image)[:, :, ::-1])
    try:
        upright = ImageOps.exif_transpose(image).convert('RGB')
    except OSError as error:  # Pillow reads the pixels only here
        raise _unreadable(getattr(image, 'filename', image), error) from error
    height, width = size
    return ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)


def _unreadable(image: object, error: Exception) -> ConfigError:
    return ConfigError(
        f'Cannot read the image {image!r}: {str(error).strip()}. Replace or remove it'
    )
