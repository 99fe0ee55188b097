# Copyright (c) mmcim contributors. All rights reserved.
from .corrim_preprocessor import CorrIMDataPreprocessor
from .data_preprocessor import CIMDataPreprocessor
from .ema import MomentumEncoder
from .exemplars import ExemplarSampling, Regions, crop_regions, region_maps
from .masking import BaseMasking, BlockMasking, RatioMasking, UniformMasking
from .pixel_norm import PatchNorm, SlidingWindowNorm
from .strong_augment import AugmentParams, StrongAugment
from .two_crops_preprocessor import TwoCropsDataPreprocessor

__all__ = [
    'AugmentParams',
    'BaseMasking',
    'BlockMasking',
    'CIMDataPreprocessor',
    'CorrIMDataPreprocessor',
    'ExemplarSampling',
    'MomentumEncoder',
    'PatchNorm',
    'RatioMasking',
    'Regions',
    'SlidingWindowNorm',
    'StrongAugment',
    'TwoCropsDataPreprocessor',
    'UniformMasking',
    'crop_regions',
    'region_maps',
]
