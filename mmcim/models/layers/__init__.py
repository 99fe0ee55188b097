# Copyright (c) mmcim contributors. All rights reserved.
from .masking import BaseMasking, BlockMasking, RatioMasking, UniformMasking
from .momentum import MomentumEncoder
from .pixel_norm import PatchNorm, SlidingWindowNorm
