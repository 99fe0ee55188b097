#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Look through an image folder before training on it: number, classes, damaged files.

Example: ``python tools/check_images.py DIR``
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmpretrain.datasets.custom import find_folders

from mmcim.datasets import LoadImage, PictureFolder
from mmcim.datasets.picture_folder import EXTENSIONS
from mmcim.utils import ConfigError, atomic_write, run_cli


def list_images(folder: str, labelled: bool) -> dict[str, list[dict]]:
    """List training and validation images, each with ``img_path`` and its label."""
    found = {}
    for subset in ('train', 'val'):
        dataset = PictureFolder(
            subset=subset, data_root=folder, with_label=labelled, lazy_init=True
        )
        try:
            found[subset] = dataset.load_data_list()
        except (ValueError, RuntimeError):  # there are none
            found[subset] = []
    return found


def check_classes(
    folder: str, classes: list[str], images: dict[str, list[dict]], num_per_class: int
) -> None:
    """Look whether every class has enough images in both subsets.

    Raises:
        ConfigError: If one has not.
    """
    if len(classes) == 1:
        raise ConfigError(
            f'{folder} has one folder, {classes[0]}; expected one for each of two '
            'classes or more, or images without folders'
        )
    train, val = (
        Counter(classes[item['gt_label']] for item in images[subset])
        for subset in ('train', 'val')
    )
    few = [
        f'{name}: {train[name]} for training, {val[name]} for validation'
        for name in classes
        if train[name] < num_per_class or not val[name]
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


def find_unreadable(paths: list[str]) -> list[str]:
    """Give those images that the data pipelines cannot read."""

    def is_unreadable(path: str) -> bool:
        try:
            LoadImage()({'img_path': path})
        except OSError:
            return True
        return False

    with ThreadPoolExecutor() as pool:
        return sorted(p for p, bad in zip(paths, pool.map(is_unreadable, paths)) if bad)


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
    parser.add_argument('folder', help='DIR/<class>/*, or images without classes')
    parser.add_argument('--num-per-class', type=int, default=20, help='for training')
    parser.add_argument('--out', type=Path, help='write the names of the classes, .json')
    args = parser.parse_args(argv)
    if not Path(args.folder).is_dir():
        raise ConfigError(f'{args.folder} is not a folder')
    classes, _ = find_folders(args.folder)
    images = list_images(args.folder, bool(classes))
    if classes:
        check_classes(args.folder, classes, images, args.num_per_class)
    elif not images['train']:
        raise ConfigError(
            f'{args.folder} has no image to train with; add some '
            f'({", ".join(EXTENSIONS)})'
        )
    paths = [item['img_path'] for subset in images.values() for item in subset]
    unreadable = find_unreadable(paths)
    if unreadable:
        raise ConfigError(
            f'{args.folder}: {len(unreadable)} of {len(paths)} images cannot be read; '
            'they are empty, truncated, damaged or of an unsupported format:'
            f'{first_lines(unreadable)}\nRepair them or move them elsewhere'
        )
    print(f'{len(paths)} images in {len(classes)} classes, all readable')
    if args.out:
        with atomic_write(args.out) as file:
            file.write(json.dumps(classes).encode())


if __name__ == '__main__':
    run_cli(main)
