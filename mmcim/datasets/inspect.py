# Copyright (c) mmcim contributors. All rights reserved.
"""A look at a data set before a run: labels, masks, sizes, and files that are broken."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from PIL import Image

from ..utils.errors import ConfigError
from .check import find_error
from .image_files import read_image

_SAMPLE = 16  # images and masks that are opened
_ONE_CHANNEL = ('1', 'L', 'P', 'I', 'I;16')
# Beginning and end of whole files.
_ENDS = ((b'\xff\xd8', b'\xff\xd9'), (b'\x89PNG', b'IEND\xaeB`\x82'))


def inspect_dataset(
    dataset: Any, training: bool, size: list[int] | None, ignored: Iterable[int] = ()
) -> None:
    """Look at all labels of a data set, and at a sample of its images and masks.

    In validation and test every image file is looked at, JPEG and PNG files by their
    beginning and end alone. Classes without images, and images that are much smaller than
    what is made of them, are a warning.

    Args:
        dataset: One of mmengine's kind; of others nothing is known.
        training: Whether it is trained on, where unreadable images are skipped.
        size: Height and width in pixels of what the pipeline makes of each image, sorted,
            if they are fixed.
        ignored: Values of masks, besides 255, that are no class.

    Raises:
        ConfigError: If there are no samples, a label or value is of no class, an image to
            evaluate on is unreadable, or a mask is missing, or of another mode or size.
    """
    if not hasattr(dataset, 'get_data_info'):
        return
    if not len(dataset):
        raise ConfigError('there are no samples')
    number = len(dataset.metainfo.get('classes') or ())
    chosen = np.linspace(0, len(dataset) - 1, min(len(dataset), _SAMPLE)).astype(int)
    sample = [dataset.get_data_info(int(index)) for index in chosen]
    if number and isinstance(sample[0].get('gt_label'), int | np.integer):
        _check_labels(dataset)
    if not training:
        every = map(dataset.get_data_info, range(len(dataset)))
        _refuse_broken(info['img_path'] for info in every if 'img_path' in info)
    sides, values = [], set()
    for info in sample:
        path = info.get('img_path', '')
        if os.path.isfile(path) and not find_error(path):  # neither remote nor skipped
            sides.append(read_image(path).shape[:2])
            if 'seg_map_path' in info:
                values |= _mask_values(info['seg_map_path'], sides[-1])
    if sides and size and 2 * np.median(np.min(sides, axis=1)) < size[0]:
        height, width = sides[0]
        MMLogger.get_current_instance().warning(
            f'Images are small for {size}, which they are enlarged to: the first is of '
            f'height {height} and width {width}. Is this the config for them?'
        )
    if values:
        _check_values(values, number, {255, *ignored}, sample[0])


def _check_labels(dataset: Any) -> None:
    """Compare the labels of a classification with its classes."""
    classes = dataset.metainfo['classes']
    found = {int(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))}
    if found and not 0 <= min(found) <= max(found) < len(classes):
        raise ConfigError(
            f'labels are {min(found)} to {max(found)}, but there are {len(classes)} '
            'classes: correct ann_file or metainfo.classes'
        )
    if empty := [name for i, name in enumerate(classes) if i not in found]:
        MMLogger.get_current_instance().warning(
            f'{len(empty)} of {len(classes)} classes have no image: '
            f'{", ".join(map(str, empty[:5]))}'
        )


def _refuse_broken(paths: Iterable[str]) -> None:
    """Skipping an image would change the metric."""
    local = [path for path in paths if '://' not in path]
    with ThreadPoolExecutor() as pool:
        errors = [error for error in pool.map(_find_broken, local) if error]
    if errors:
        raise ConfigError(f'{len(errors)} of {len(local)} unreadable: {errors[0]}')


def _find_broken(path: str) -> str:
    """Like :func:`find_error`, but files that begin and end as they should pass."""
    try:
        with open(path, 'rb') as file:
            head = file.read(4)
            file.seek(-8, os.SEEK_END)
            tail = file.read()
    except OSError:  # missing, or shorter than that
        return find_error(path)
    whole = any(head.startswith(a) and tail.endswith(b) for a, b in _ENDS)
    return '' if whole else find_error(path)


def _mask_values(path: str, size: tuple[int, int]) -> set[int]:
    """Read a segmentation map of an image of some height and width."""
    try:
        with Image.open(path) as mask:
            values, mode = np.asarray(mask), mask.mode
    except OSError as error:
        raise ConfigError(f'cannot read the mask {path!r}: {error}') from error
    if mode not in _ONE_CHANNEL:
        raise ConfigError(
            f'the mask {path!r} is of mode {mode}: expected one channel with the numbers '
            'of classes; convert its colours to those'
        )
    if values.shape != size:
        raise ConfigError(
            f'the mask {path!r} has height and width {values.shape}, its image {size}: '
            'resize it by nearest neighbours, or pair the files anew'
        )
    return {*np.unique(values).tolist()}


def _check_values(values: set[int], number: int, ignored: set[int], info: dict) -> None:
    """Compare the values of masks with the number of classes."""
    zero_is_ignored = bool(info.get('reduce_zero_label'))
    classes = {*range(number + zero_is_ignored), *(info.get('label_map') or ())}
    if unknown := sorted(values - classes - ignored):
        raise ConfigError(
            f'masks have the values {unknown[:5]}, but there are {number} classes: '
            'correct the masks, metainfo.classes, reduce_zero_label or ignore_index'
        )
    if number > 1 and 255 in values <= {0, 255}:
        raise ConfigError(
            'masks have the values 0 and 255 alone, and 255 is ignored: store the '
            'numbers of classes, 0, 1, ...'
        )
