# Copyright (c) mmcim contributors. All rights reserved.
from .exemplars import ExemplarSampling, Regions, crop_regions, region_maps
from .preprocessors import (
    CIMDataPreprocessor,
    ConMIMDataPreprocessor,
    CorrIMDataPreprocessor,
    DevicePreprocessor,
    TwoCropsDataPreprocessor,
)
from .strong_augment import AugmentParams, StrongAugment
