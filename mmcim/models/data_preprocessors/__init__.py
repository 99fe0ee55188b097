# Copyright (c) mmcim contributors. All rights reserved.
from .base import DevicePreprocessor
from .cim import CIMDataPreprocessor
from .conmim import ConMIMDataPreprocessor
from .corrim import CorrIMDataPreprocessor
from .exemplars import ExemplarSampling, Regions, crop_regions, region_maps
from .strong_augment import AugmentParams, StrongAugment
from .two_crops import TwoCropsDataPreprocessor
