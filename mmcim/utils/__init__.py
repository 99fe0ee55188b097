# Copyright (c) mmcim contributors. All rights reserved.
from .building import BuildError, check_keys, explain_build_errors
from .errors import ConfigError
from .files import atomic_write, remove_stale_files
from .launch import add_cfg_options, add_run_options, build_runner, load_config, run_cli

__all__ = [
    'BuildError',
    'ConfigError',
    'add_cfg_options',
    'add_run_options',
    'atomic_write',
    'build_runner',
    'check_keys',
    'explain_build_errors',
    'load_config',
    'remove_stale_files',
    'run_cli',
]
