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
    if len(listing.classes) == 1:
        raise ConfigError(
            f'{folder} has one folder, {listing.classes[0]}; expected one for each of '
            'two classes or more, or images without folders'
        )
    count = Counter((file.split('/')[0], is_val(file)) for file in listing.files)
    few = [
        f'{name}: {count[name, False]} for training, {count[name, True]} for validation'
        for name in listing.classes
        if count[name, False] < NUM_PER_CLASS or not count[name, True]
    ]
    if few:
        raise ConfigError(
            f'{folder}: {len(few)} of {len(listing.classes)} classes have too few images:'
            f'{_first(few)}\nExpected of each: {NUM_PER_CLASS} for training, 1 for '
            f'validation; {2 * NUM_PER_CLASS} are enough as a rule.\n'
            f'Add images ({", ".join(EXTENSIONS)}), move these folders elsewhere, or put '
            'all images into one folder to pre-train without labels'
        )
    paths = [Path(folder, file) for file in listing.files]
    with ThreadPoolExecutor() as pool:
        found = track(pool.map(_find_error, paths), 'Reading images', len(paths))
        errors = [error for error in found if error]
    if errors:
        raise ConfigError(
            f'{folder}: {len(errors)} of {len(paths)} images are unreadable:'
            f'{_first(errors)}'
        )
    return listing


def _find_error(path: Path) -> str:
    """Give the reason why an image cannot be read, or nothing."""
    try:
        read_image(path)
    except ConfigError as error:
        return str(error)
    return ''


def _first(items: list[str], most: int = 5) -> str:
    """Indent the first items, one per line."""
    shown = items if len(items) <= most else [*items[:most], '...']
    return ''.join(f'\n  {item}' for item in shown)
