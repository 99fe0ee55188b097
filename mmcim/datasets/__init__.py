# Copyright (c) mmcim contributors. All rights reserved.
"""Datasets, dataset wrappers and image transforms."""

from . import augmentation, transforms
from .digits import Digits
from .few_labels import few_labels
from .image_files import fit_image, list_images, read_image
from .image_folder import ImageFolder
from .inspect import check_images, inspect_dataset, measure_normalization
