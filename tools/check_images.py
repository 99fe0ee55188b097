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
from mmcim.datasets.image_files import EXTENSIONS
from mmcim.datasets.image_folder import is_val
from mmcim.utils import ConfigError, run_cli


def check_classes(
    folder: Path, classes: list[str], files: list[str], num_per_class: int
) -> None:
    """Check that every class has enough images in both subsets.

    Raises:
        ConfigError: If one has not.
    """
    if len(classes) == 1:
        raise ConfigError(
            f'{folder} has one folder, {classes[0]}; expected one for each of two '
            'classes or more, or images without folders'
        )
    count = Counter((file.split('/')[0], is_val(file)) for file in files)
    few = [
        f'{name}: {count[name, False]} for training, {count[name, True]} for validation'
        for name in classes
        if count[name, False] < num_per_class or not count[name, True]
    ]
    if few:
        raise ConfigError(
            f'{folder}: {len(few)} of {len(classes)} classes have too few images:'
            f'{first_lines(few)}\nExpected of each: {num_per_class} for training, 1 for '
            'validation. A fifth is kept for validation, chosen by file name; '
            f'{2 * num_per_class} images are enough as a rule.\nAdd images '
            f'({", ".join(EXTENSIONS)}), or move the folders of these classes elsewhere, '
            'or put all images into one folder without folders in it, to pre-train '
            'without labels'
        )


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
    """Check a folder.

    Raises:
        ConfigError: If it cannot be trained on.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='DIR/<class>/*, or images')
    parser.add_argument('--num-per-class', type=int, default=20, help='for training')
    args = parser.parse_args(argv)
    listing = list_images(args.folder)
    if listing.classes:
        check_classes(args.folder, listing.classes, listing.files, args.num_per_class)
    paths = [args.folder / file for file in listing.files]
    with ThreadPoolExecutor() as pool:
        errors = [error for error in pool.map(find_error, paths) if error]
    if errors:
        raise ConfigError(
            f'{args.folder}: {len(errors)} of {len(paths)} images are unreadable:'
            f'{first_lines(errors)}'
        )
    print(f'All readable: {listing}')


if __name__ == '__main__':
    run_cli(main)
