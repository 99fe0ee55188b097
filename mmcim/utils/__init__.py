# Copyright (c) mmcim contributors. All rights reserved.
from .config_check import check_config
from .errors import ConfigError
from .files import atomic_write, remove_stale_files
from .launch import (
    add_cfg_options,
    build_runner,
    init_distributed,
    load_config,
    run_cli,
)
from .lr_scaling import effective_batch_size, scale_lr

__all__ = [
    'ConfigError',
    'add_cfg_options',
    'atomic_write',
    'build_runner',
    'check_config',
    'effective_batch_size',
    'init_distributed',
    'load_config',
    'remove_stale_files',
    'run_cli',
    'scale_lr',
]
