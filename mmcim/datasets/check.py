# Copyright (c) mmcim contributors. All rights reserved.
"""A look through an image folder before anything is trained on it."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..utils.errors import ConfigError
from ..utils.terminal import track
from .image_files import EXTENSIONS, Listing, list_images, read_image
from .image_folder import is_val

NUM_PER_CLASS = 20  # for training; the quickstart labels so many


def check_images(folder: str | Path) -> Listing:
    """Read all images of a folder, and count those of each class.

    Args:
        folder: ``<class>/*``, or images without classes.

    Returns:
        What is in it.

    Raises:
        ConfigError: If it is not a folder, has no images or only one class, if a class
            has too few images to train and validate, or if images are unreadable.
    """
    listing = list_images(folder)
    count = Counter((file.split('/')[0], is_val(file)) for file in listing.files)
    few = [
        f'{name}: {count[name, False]} for training, {count[name, True]} for validation'
        for name in listing.classes
        if count[name, False] < NUM_PER_CLASS or not count[name, True]
    ]
    if few or len(listing.classes) == 1:
        raise ConfigError(
            f'{folder}: {len(few)} of {len(listing.classes)} class folders have too few '
            f'images:{_first(few)}\nExpected two classes or more, each with '
            f'{NUM_PER_CLASS} for training and 1 for validation; {2 * NUM_PER_CLASS} are '
            f'enough as a rule.\nAdd images ({", ".join(EXTENSIONS)}), move folders '
            'elsewhere, or put all images into one folder to pre-train without labels'
        )
    paths = [Path(folder, file) for file in listing.files]
    with ThreadPoolExecutor() as pool:
        found = track(pool.map(find_error, paths), 'Reading images', len(paths))
        errors = [error for error in found if error]
    if errors:
        raise ConfigError(f'{len(errors)} images are unreadable:{_first(errors)}')
    return listing


def find_error(path: str | Path) -> str:
    """Give the reason why an image cannot be read, or nothing."""
    try:
        read_image(path)
    except ConfigError as error:
        return str(error)
    return ''


def _first(items: list[str]) -> str:
    return '\n  '.join(['', *items[:5], '...'][: len(items) + 1])
