# Copyright (c) mmcim contributors. All rights reserved.
from .exemplars import ExemplarSampling, Regions, crop_regions, region_maps
from .multi_crops import MultiCropDataPreprocessor, TwoCropsDataPreprocessor
from .preprocessors import (
    CIMDataPreprocessor,
    ConMIMDataPreprocessor,
    CorrIMDataPreprocessor,
    DevicePreprocessor,
)
from .strong_augment import AugmentParams, StrongAugment
