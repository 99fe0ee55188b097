# Copyright (c) mmcim contributors. All rights reserved.
from .auto_amp import AutoAmpOptimWrapper
from .constructor import (
    LayerDecayOptimWrapperConstructor,
    NetworkwiseOptimWrapperConstructor,
)
