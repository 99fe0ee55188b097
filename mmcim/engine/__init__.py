# Copyright (c) mmcim contributors. All rights reserved.
from .data_parallel import CPUDataParallel
from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .runner import StrictRunner

__all__ = ['CPUDataParallel', 'StrictRunner']
