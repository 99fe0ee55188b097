# Copyright (c) mmcim contributors. All rights reserved.
from .masking import (
    BaseMasking,
    BlockMasking,
    MaskedPatches,
    RatioMasking,
    UniformMasking,
)
from .momentum import MomentumEncoder
from .pixel_norm import PatchNorm, SlidingWindowNorm
from .sync_batch_norm import SyncBatchNorm
