# Copyright (c) mmcim contributors. All rights reserved.
from .checkpoint import load_checkpoint, use_safe_loading
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

__all__ = [
    'ConfigError',
    'add_cfg_options',
    'atomic_write',
    'build_runner',
    'check_config',
    'init_distributed',
    'load_checkpoint',
    'load_config',
    'remove_stale_files',
    'run_cli',
    'use_safe_loading',
]
