# Copyright (c) mmcim contributors. All rights reserved.
"""What the command-line tools share: from arguments to a runner."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import is_distributed
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed as torch_dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from .building import TOP_LEVEL, explain_build_errors, nearest
from .errors import ConfigError
from .scope import drop_scope


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, which every tool reads the same way."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=_option,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. optim_wrapper.optimizer.lr=1e-4 or '
        'key="[a,(b,c)]". Commas make a list and spaces are removed: set a value that '
        'contains either of them in a config file',
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in common."""
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; work_dirs/CONFIG by default',
    )
    launchers = ['none', 'pytorch', 'slurm']
    parser.add_argument('--launcher', choices=launchers, default='none')
    add_cfg_options(parser)


def _option(text: str) -> tuple[str, Any]:
    """Read an option as mmengine's ``DictAction`` does, with argparse's short errors."""
    try:
        key, value = text.split('=', maxsplit=1)
        return key, DictAction._parse_iterable(value)
    except (ValueError, AssertionError) as error:
        raise argparse.ArgumentTypeError(
            f'expected KEY=VALUE, got {text!r} ({error})'
        ) from error


def load_config(
    path: str | Path,
    options: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config file and settle what every tool needs in it.

    Args:
        path: The config file.
        options: Dotted keys to override, and their values.
        work_dir: Goes before the config's own; with neither it is
            ``work_dirs/<name of the config>``.
        launcher: 'none', 'pytorch' or 'slurm'.

    Returns:
        The config.

    Raises:
        ConfigError: If a file does not exist, or what overrides does not fit.
    """
    try:
        cfg = Config.fromfile(path)
    except (FileNotFoundError, TypeError) as error:  # of it or of what it inherits
        raise ConfigError(f'config {path}: {error}') from error
    drop_scope(cfg._cfg_dict)
    options = dict(options or ())
    for name in {key.split('.')[0] for key in options} - {*cfg, *TOP_LEVEL}:
        close = nearest(name, [*cfg, *TOP_LEVEL])
        raise ConfigError(f'--cfg-options: {path} has no {name!r}.{close}')
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AssertionError) as error:
        raise ConfigError(f'--cfg-options do not fit {path}: {error}') from error
    # A run asks for the config's text five times; yapf would take up to a second.
    cfg.__dict__['_format_python_code'] = False
    default = os.path.join('work_dirs', Path(path).stem)
    cfg.work_dir = work_dir or cfg.get('work_dir') or default
    cfg.launcher = launcher
    if cfg.get('default_scope') == 'mmpretrain':
        # mmpretrain's configs leave this to mmpretrain's own tools.
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(name):
                cfg[name].setdefault('collate_fn', ConfigDict(type='default_collate'))
                cfg[name].setdefault('pin_memory', torch.cuda.is_available())
    return cfg


def build_runner(cfg: Config, mode: str | None = None) -> Runner:
    """Build the runner that the config asks for.

    Args:
        cfg: The complete config; without ``runner_type`` it gets a ``StrictRunner``.
        mode: 'train', 'val' or 'test' if it is for that.

    Returns:
        The runner.

    Raises:
        ConfigError: For everything in the config that cannot be built; see
            :class:`mmcim.utils.building.ConfigKeyErrors`.
    """
    if mode and cfg.get(f'{mode}_dataloader') is None:
        raise ConfigError(f'{mode}_dataloader is missing: the config cannot {mode}')
    cfg.setdefault('runner_type', 'StrictRunner')
    with explain_build_errors(cfg):
        return RUNNERS.build(cfg)


def run_cli(main: Callable[[], object]) -> None:
    """Run a tool as a command: what the user can fix is a message and exit code 2.

    Interrupted (Ctrl-C, SIGTERM) it unwinds, so that no half-written file remains.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
        if is_distributed():
            torch_dist.destroy_process_group()
    except ConfigError as error:
        if os.environ.get('RANK', '0') == '0':
            print(f'error: {error}', file=sys.stderr)
        # The report of torchrun comes last; let it end with the message.
        error.__cause__ = None
        get_error_handler().record_exception(error.with_traceback(None))
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
