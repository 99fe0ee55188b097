# Copyright (c) mmcim contributors. All rights reserved.
from .building import BuildError, ConfigKeyErrors, check_top_level, explain_build_errors
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
    'BuildError',
    'ConfigError',
    'ConfigKeyErrors',
    'add_cfg_options',
    'atomic_write',
    'build_runner',
    'check_top_level',
    'explain_build_errors',
    'init_distributed',
    'load_config',
    'remove_stale_files',
    'run_cli',
]
