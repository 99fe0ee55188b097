# Copyright (c) mmcim contributors. All rights reserved.
from .data_parallel import CPUDataParallel
from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .worker_seed import worker_init_fn

__all__ = ['CPUDataParallel', 'worker_init_fn']
