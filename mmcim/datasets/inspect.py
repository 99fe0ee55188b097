# Copyright (c) mmcim contributors. All rights reserved.
"""A look at image folders and data sets before anything is trained on them."""

import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from PIL import Image

from ..utils.errors import ConfigError
from .image_files import Listing, fit_image, list_images, read_image
from .image_folder import is_val
from .packed import locate
from .transforms import transforms_of

NUM_PER_CLASS = 20  # for training; the quickstart labels so many
# What reads the files that are looked at here.
_LOADERS = {'LoadImage', 'LoadImageFromFile', 'LoadAnnotations'}
_SAMPLE = 16  # images and masks that are opened
_ENDS = (b'\xff\xd9', b'IEND\xaeB`\x82')  # of complete JPEG and PNG files


def check_images(folder: str | Path) -> Listing:
    """Look at all images of a folder, and count those of each class.

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
            f'images ({"; ".join(few[:5])}). Expected two classes or more, each with '
            f'{NUM_PER_CLASS} for training and 1 for validation: add images, move '
            'folders away, or put all images into one to pre-train without labels'
        )
    refuse_unreadable(os.path.join(folder, file) for file in listing.files)
    return listing


def measure_normalization(
    files: Iterable[str | Path],
    img_size: int | tuple[int, int] = 224,
    max_images: int = 1000,
) -> tuple[list[float], list[float]]:
    """Measure the mean and standard deviation of R, G and B over all pixels of images.

    Images of all kinds count as training reads them, see
    :func:`~mmcim.datasets.read_image`: grey ones in three equal channels, 16-bit ones by
    their upper 8 bits.

    Args:
        files: Paths, in any order.
        img_size: Side, or height and width, that images are resized to and cropped, see
            :func:`~mmcim.datasets.fit_image`. Smaller images have a smaller deviation.
        max_images: Of more, so many are taken, evenly spaced in sorted order.

    Returns:
        Mean and std, three values each, on the scale 0..255, as configs have them. A std
        is at least 1, so that a constant channel can be divided by it.

    Raises:
        ConfigError: If an image cannot be read, with its path.

    Example:
        >>> mean, std = measure_normalization(Path('images').rglob('*.png'), img_size=64)
    """
    paths = sorted(os.fspath(file) for file in files)
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), max_images)).astype(int)
    size = (img_size, img_size) if isinstance(img_size, int) else img_size

    def moments(index: int) -> np.ndarray:
        pixels = np.asarray(fit_image(paths[index], size), np.float64)  # (H, W, 3)
        return np.stack([pixels, pixels**2]).mean(axis=(1, 2))

    with ThreadPoolExecutor() as pool:
        mean, square = np.mean([*pool.map(moments, chosen)], axis=0)
    return mean.tolist(), np.sqrt(np.maximum(square - mean**2, 1)).tolist()


def inspect_dataset(
    dataset: Any, training: bool, size: list[int] | None, ignored: Iterable[int] = ()
) -> None:
    """Look at all labels of a data set, and at a sample of its images and masks.

    In validation and test every image file is looked at, JPEG and PNG files by their end
    alone. Classes without images, and images that are much smaller than what is made of
    them, are a warning.

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
    transforms = {type(t).__name__: t for t in transforms_of(dataset)}
    loaders = {name: t for name, t in transforms.items() if name.startswith('Load')}
    remote = any(getattr(t, 'backend_args', None) for t in loaders.values())
    if remote or loaders.keys() - _LOADERS:
        return  # images are read in another way
    if not training:
        every = map(dataset.get_data_info, range(len(dataset)))
        refuse_unreadable(info['img_path'] for info in every if 'img_path' in info)
    sides, values = [], set()
    for info in sample:
        path = info.get('img_path', '')
        if not os.path.isfile(path) and not locate(path)[0]:
            continue  # remote, or in memory
        try:
            sides.append(read_image(path).shape[:2])
        except ConfigError:
            continue  # skipped in training
        if info.get('seg_map_path') and 'LoadAnnotations' in (loaders or _LOADERS):
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
    if not found <= {*range(len(classes))}:
        raise ConfigError(
            f'labels are {min(found)} to {max(found)}, but there are {len(classes)} '
            'classes: correct ann_file or metainfo.classes'
        )
    if empty := [str(name) for i, name in enumerate(classes) if i not in found]:
        MMLogger.get_current_instance().warning(
            f'{len(empty)} of {len(classes)} classes have no image: '
            f'{", ".join(empty[:5])}'
        )


def refuse_unreadable(paths: Iterable[str]) -> None:
    """Look at all local images; skipping one would change a metric.

    Raises:
        ConfigError: If any is unreadable. Packed ones have been looked at before.
    """
    local = [path for path in paths if '://' not in path and not locate(path)[0]]
    with ThreadPoolExecutor() as pool:
        errors = [error for error in pool.map(_find_error, local) if error]
    if errors:
        first = '; '.join(errors[:5])
        raise ConfigError(f'{len(errors)} of {len(local)} images are unreadable: {first}')


def _find_error(path: str) -> str:
    """Give the reason why an image cannot be read, or nothing."""
    with suppress(OSError), open(path, 'rb') as file:  # missing, or shorter than that
        file.seek(-8, os.SEEK_END)
        if file.read().endswith(_ENDS):
            return ''  # to decode 50,000 images would take minutes
    try:
        read_image(path)
    except ConfigError as error:
        return str(error)
    return ''


def _mask_values(path: str, size: tuple[int, int]) -> set[int]:
    """Read a segmentation map of an image of some height and width."""
    try:
        with Image.open(path) as mask:
            values = np.asarray(mask)
    except OSError as error:
        raise ConfigError(f'cannot read the mask {path!r}: {error}') from error
    if values.shape != size:
        raise ConfigError(
            f'the mask {path!r} is of shape {values.shape}, its image {size}: expected '
            'is one channel of that size, with the numbers of classes'
        )
    return {*np.unique(values).tolist()}


def _check_values(values: set[int], number: int, ignored: set[int], info: dict) -> None:
    """Compare the values of masks with the number of classes."""
    zero_is_ignored = bool(info.get('reduce_zero_label'))
    classes = {*range(number + zero_is_ignored), *(info.get('label_map') or ())}
    # Both alone are the two classes of many tools; 255 would be ignored.
    is_binary = number > 1 and 255 in values <= {0, 255}
    if unknown := sorted(values - classes - (set() if is_binary else ignored)):
        raise ConfigError(
            f'masks have the values {unknown[:5]}, but there are {number} classes: '
            'correct the masks, metainfo.classes, reduce_zero_label or ignore_index'
        )
