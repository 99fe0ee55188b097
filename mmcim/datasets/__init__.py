# Copyright (c) mmcim contributors. All rights reserved.
"""Datasets, dataset wrappers and image transforms."""

from .digit_scenes import DigitScenes
from .digits import Digits
from .few_labels import few_labels
from .image_files import list_images, read_image
from .image_folder import ImageFolder
from .transforms import (
    BEiTBlockMask,
    LoadImage,
    RandomAffine,
    RandomResizedCropTwoPictures,
)

__all__ = [
    'BEiTBlockMask',
    'DigitScenes',
    'Digits',
    'ImageFolder',
    'LoadImage',
    'RandomAffine',
    'RandomResizedCropTwoPictures',
    'few_labels',
    'list_images',
    'read_image',
]
