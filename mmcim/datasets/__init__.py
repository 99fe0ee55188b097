# Copyright (c) mmcim contributors. All rights reserved.
"""Datasets, dataset wrappers and picture transforms."""

from .digit_scenes import DigitScenes
from .digits import Digits
from .few_labels import few_labels
from .picture_folder import PictureFolder
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
    'LoadImage',
    'PictureFolder',
    'RandomAffine',
    'RandomResizedCropTwoPictures',
    'few_labels',
]
