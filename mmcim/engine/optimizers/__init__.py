# Copyright (c) mmcim contributors. All rights reserved.
from .auto_amp import AutoAmpOptimWrapper
from .constructor import NetworkwiseOptimWrapperConstructor

__all__ = ['AutoAmpOptimWrapper', 'NetworkwiseOptimWrapperConstructor']
