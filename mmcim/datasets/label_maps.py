# Copyright (c) mmcim contributors. All rights reserved.
"""Segmentation data in ADE20K's layout: pictures, and label maps as PNG files.

``<root>/images/<split>/<name>.jpg`` belongs to ``<root>/annotations/<split>/<name>.png``,
whose pixels are 0 for what is not counted and 1, 2, ... for the classes.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..utils.errors import ConfigError
from ..utils.files import remove_stale_files

SUFFIXES = dict(images='.jpg', annotations='.png')


def read_labels(data: bytes, name: str, highest: int) -> np.ndarray:
    """Decode a label map and check its range.

    Args:
        data (bytes): The content of a picture file with one channel.
        name (str): What it is called, for errors.
        highest (int): The highest label there may be.

    Returns:
        np.ndarray: Labels, (H, W) uint8.

    Raises:
        ConfigError: If it is no picture, has colours, or holds a higher label.
    """
    picture = _open(data, name)
    if picture.mode not in ('L', 'P'):
        raise ConfigError(
            f'{name}: expected a map of labels with one 8-bit channel, found mode '
            f'{picture.mode}. Colour-coded labels have to be turned into ids first.'
        )
    labels = np.asarray(picture)
    if labels.max() > highest:
        raise ConfigError(
            f'{name}: label {labels.max()} is out of range, expected 0 to {highest}'
        )
    return labels


def read_picture(data: bytes, name: str, labels: np.ndarray) -> Image.Image:
    """Open a picture and check that it is as large as its label map.

    Args:
        data (bytes): The content of a picture file.
        name (str): What it is called, for errors.
        labels (np.ndarray): Its label map, (H, W).

    Returns:
        Image.Image: The picture, completely decoded.

    Raises:
        ConfigError: If it is no picture or of another size.
    """
    picture = _open(data, name)
    if picture.size != labels.shape[::-1]:
        raise ConfigError(
            f'{name}: the picture has {picture.width} x {picture.height} px, but its '
            f'label map {labels.shape[1]} x {labels.shape[0]} px'
        )
    return picture


def _open(data: bytes, name: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ConfigError(f'{name} is damaged or no picture: {error}') from error
    return picture


def check_pairs(
    images: set[str], annotations: set[str], split: str, expected: int
) -> list[str]:
    """Check that each picture of a split has a label map, and how many there are.

    Args:
        images (set[str]): Names of the pictures, without suffix.
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
        (annotations, images, 'picture'),
    ):
        alone = sorted(have - lack)
        if alone:
            raise ConfigError(
                f'{split}: {len(alone)} without a {what}, the first of them {alone[0]}'
            )
    if len(images) != expected:
        raise ConfigError(
            f'{split}: found {len(images)} pictures, expected {expected}. If the data '
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
