#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Look through an image folder before training on it: number, classes, damaged files.

Example: ``python tools/check_images.py DIR``
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmcim.datasets import list_images, read_image
from mmcim.datasets.image_files import EXTENSIONS, Listing
from mmcim.datasets.image_folder import is_val
from mmcim.utils import ConfigError, run_cli

NUM_PER_CLASS = 20  # for training; the quickstart labels so many


def too_small_classes(listing: Listing) -> list[str]:
    """Describe the classes that have too few images in one of the subsets."""
    count = Counter((file.split('/')[0], is_val(file)) for file in listing.files)
    return [
        f'{name}: {count[name, False]} for training, {count[name, True]} for validation'
        for name in listing.classes
        if count[name, False] < NUM_PER_CLASS or not count[name, True]
    ]


def find_error(path: Path) -> str | None:
    """Give the reason why the data pipelines cannot read an image, or None."""
    try:
        read_image(path)
    except ConfigError as error:
        return str(error)
    return None


def first_lines(items: list[str], most: int = 5) -> str:
    """Indent the first items, one per line, for an error message."""
    shown = items if len(items) <= most else [*items[:most], '...']
    return ''.join(f'\n  {item}' for item in shown)


def main(argv: Sequence[str] | None = None) -> None:
    """Check a folder; exit with code 2 and the reason if it cannot be trained on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='DIR/<class>/*, or images')
    args = parser.parse_args(argv)
    listing = list_images(args.folder)
    if len(listing.classes) == 1:
        parser.error(
            f'{args.folder} has one folder, {listing.classes[0]}; expected one for each '
            'of two classes or more, or images without folders'
        )
    if few := too_small_classes(listing):
        parser.error(
            f'{args.folder}: {len(few)} of {len(listing.classes)} classes have too few '
            f'images:{first_lines(few)}\nExpected of each: {NUM_PER_CLASS} for training, '
            f'1 for validation; {2 * NUM_PER_CLASS} are enough as a rule.\n'
            f'Add images ({", ".join(EXTENSIONS)}), move these folders elsewhere, or put '
            'all images into one folder to pre-train without labels'
        )
    paths = [args.folder / file for file in listing.files]
    with ThreadPoolExecutor() as pool:
        errors = [error for error in pool.map(find_error, paths) if error]
    if errors:
        parser.error(
            f'{args.folder}: {len(errors)} of {len(paths)} images are unreadable:'
            f'{first_lines(errors)}'
        )
    print(f'All readable: {listing}')


if __name__ == '__main__':
    run_cli(main)
