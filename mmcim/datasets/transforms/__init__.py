# Copyright (c) mmcim contributors. All rights reserved.
"""Picture transforms that run in the data-loader workers."""

from .loading import LoadImage
from .processing import BEiTBlockMask, RandomAffine, RandomResizedCropTwoPictures

__all__ = [
    'BEiTBlockMask',
    'LoadImage',
    'RandomAffine',
    'RandomResizedCropTwoPictures',
]
