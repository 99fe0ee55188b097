# Copyright (c) mmcim contributors. All rights reserved.
from .data_preprocessor import CIMDataPreprocessor
from .masking import BaseMasking, BlockMasking, RatioMasking, UniformMasking
from .pixel_norm import PatchNorm, SlidingWindowNorm

__all__ = [
    'BaseMasking',
    'BlockMasking',
    'CIMDataPreprocessor',
    'PatchNorm',
    'RatioMasking',
    'SlidingWindowNorm',
    'UniformMasking',
]
