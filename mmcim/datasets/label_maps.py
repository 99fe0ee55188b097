# Copyright (c) mmcim contributors. All rights reserved.
"""Segmentation data in ADE20K's layout: images, and label maps as PNG files.

``<root>/images/<split>/<name>.jpg`` belongs to ``<root>/annotations/<split>/<name>.png``,
whose pixels are 0 for what is not counted and 1, 2, ... for the classes.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ..utils.errors import ConfigError
from ..utils.files import remove_stale_files
from .image_files import read_image

SUFFIXES = dict(images='.jpg', annotations='.png')


def read_pair(files: dict[str, Path], highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its label map, and check that they fit.

    Args:
        files: The file of each, by the keys of ``SUFFIXES``.
        highest: The highest label there may be.

    Returns:
        The image, (H, W, 3) uint8 BGR, and its labels, (H, W) uint8.

    Raises:
        ConfigError: If one of them is missing or damaged, their sizes differ, or the
            label map has colours or a higher label.
    """
    path = files['annotations']
    try:
        with Image.open(path) as label_map:
            labels, mode = np.asarray(label_map), label_map.mode
    except (OSError, SyntaxError) as error:  # what Pillow raises for a broken PNG
        raise ConfigError(f'Cannot read the label map {path}: {error}') from error
    if mode not in ('L', 'P'):
        raise ConfigError(
            f'{path}: expected a label map with one 8-bit channel, found mode {mode}. '
            'Colour-coded labels have to be converted to ids first.'
        )
    if labels.max() > highest:
        raise ConfigError(
            f'{path}: label {labels.max()} is out of range, expected 0 to {highest}'
        )
    image = read_image(files['images'])
    if image.shape[:2] != labels.shape:
        raise ConfigError(
            f'{files["images"]}: the image has {image.shape[1]} x {image.shape[0]} px, '
            f'but its label map {labels.shape[1]} x {labels.shape[0]} px'
        )
    return image, labels


def check_pairs(
    images: set[str], annotations: set[str], split: str, expected: int
) -> list[str]:
    """Check that each image of a split has a label map, and how many there are.

    Args:
        images (set[str]): Names of the images, without suffix.
        annotations (set[str]): Names of the label maps, without suffix.
        split (str): What they are of, for errors.
        expected (int): How many there should be.

    Returns:
        list[str]: The names in order.

    Raises:
        ConfigError: If names have no partner or the number differs.
    """
    for have, lack, what in (
        (images, annotations, 'label map'),
        (annotations, images, 'image'),
    ):
        alone = sorted(have - lack)
        if alone:
            raise ConfigError(
                f'{split}: {len(alone)} without {what}, the first of them {alone[0]}'
            )
    if len(images) != expected:
        raise ConfigError(
            f'{split}: found {len(images)} images, expected {expected}. If the data '
            'set is not the official one, --counts says how many there are.'
        )
    return sorted(images)


def prepare_folder(root: Path, split: str, names: list[str]) -> None:
    """Make the folders of a split and look at what they hold already.

    Args:
        root (Path): The data set's folder.
        split (str): 'training', 'validation' or 'test'.
        names (list[str]): Names, without suffix, that will be there in the end.

    Raises:
        ConfigError: If there are other files, which the data set would include.
    """
    for kind, suffix in SUFFIXES.items():
        folder = root / kind / split
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_files(folder)
        foreign = {path.name for path in folder.iterdir()}
        foreign -= {name + suffix for name in names}
        if foreign:
            raise ConfigError(
                f'{folder} holds {len(foreign)} other files, the first of them '
                f'{min(foreign)}; remove them or give another --out'
            )
