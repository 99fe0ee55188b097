# Copyright (c) mmcim contributors. All rights reserved.
from .building import BuildError, check_keys, explain_build_errors
from .errors import ConfigError
from .files import atomic_write, remove_stale_files
from .launch import build_runner, load_config
