# Copyright (c) mmcim contributors. All rights reserved.
from .exemplars import ExemplarSampling, Regions, crop_regions, region_maps
from .preprocessors import (
    CIMDataPreprocessor,
    ConMIMDataPreprocessor,
    CorrIMDataPreprocessor,
    DevicePreprocessor,
    MultiCropDataPreprocessor,
    TwoCropsDataPreprocessor,
)
from .strong_augment import AugmentParams, StrongAugment
