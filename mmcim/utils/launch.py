# Copyright (c) mmcim contributors. All rights reserved.
"""What the command-line tools share: from arguments to a runner."""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import (
    all_gather_object,
    get_rank,
    init_dist,
    is_distributed,
)
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch import distributed as torch_dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from .building import explain_build_errors
from .errors import ConfigError

# Where Slurm says what torchrun does.
_SLURM = dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
T = TypeVar('T')


class _CfgOptions(DictAction):
    """mmengine's ``DictAction`` with argparse's one-line errors."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Add the options to those read before."""
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError) as error:
            parser.error(f'{option_string}: expected KEY=VALUE, got {values} ({error})')


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cfg-options``, which every tool reads the same way."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_CfgOptions,
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. optim_wrapper.optimizer.lr=1e-4 or '
        'key="[a,(b,c)]". Commas make a list and spaces are removed: set a value that '
        'contains either of them in a config file',
    )


def load_config(
    path: str | Path,
    options: dict | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config file and settle what every tool needs in it.

    Args:
        path (str | Path): The config file.
        options (dict, optional): Dotted keys to override. Defaults to None.
        work_dir (str, optional): Goes before the config's own; with neither it is
            ``work_dirs/<name of the config>``. Defaults to None.
        launcher (str): 'none', 'pytorch' or 'slurm'. Defaults to 'none'.

    Returns:
        Config: The config.

    Raises:
        ConfigError: If the file does not exist or an option does not fit it.
    """
    if not os.path.isfile(path):
        raise ConfigError(f'config file {path} does not exist')
    try:
        cfg = Config.fromfile(path)
    except FileNotFoundError as error:
        raise ConfigError(f'{path} inherits from a missing file: {error}') from error
    except TypeError as error:  # a dict in the place of something else
        raise ConfigError(f'{path} does not fit what it inherits: {error}') from error
    # A run asks for the config's text five times; yapf would take up to a second.
    cfg.__dict__['_format_python_code'] = False
    if options:
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError, AssertionError) as error:
            raise ConfigError(f'--cfg-options do not fit {path}: {error}') from error
    cfg.work_dir = (
        work_dir or cfg.get('work_dir') or os.path.join('work_dirs', Path(path).stem)
    )
    cfg.launcher = launcher
    if cfg.get('default_scope') == 'mmpretrain':
        # mmpretrain's configs leave this to mmpretrain's own tools.
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(name):
                cfg[name].setdefault('collate_fn', ConfigDict(type='default_collate'))
                cfg[name].setdefault('pin_memory', torch.cuda.is_available())
    return cfg


def init_distributed(launcher: str, env_cfg: dict) -> None:
    """Start the process group, on GPUs as mmengine does, on CPUs with gloo.

    mmengine always selects a GPU, but keeps a group that is there.

    Args:
        launcher: 'none', 'pytorch' or 'slurm'.
        env_cfg: With ``mp_cfg`` and ``dist_cfg``, see :class:`mmengine.runner.Runner`.
    """
    if launcher == 'none' or is_distributed():
        return
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
    settings = dict(env_cfg.get('dist_cfg', {}))
    if torch.cuda.is_available():
        init_dist(launcher, **settings)
    else:
        _init_gloo(launcher, settings.get('timeout'))


def _init_gloo(launcher: str, timeout: int | None) -> None:
    if launcher == 'slurm':
        for name, source in _SLURM.items():
            os.environ[name] = os.environ[source]
        os.environ.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in os.environ:
            hosts = subprocess.run(
                ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            os.environ['MASTER_ADDR'] = hosts.split()[0]
    torch_dist.init_process_group(
        'gloo', timeout=None if timeout is None else timedelta(seconds=timeout)
    )


def check_together(check: Callable[[], T]) -> T:
    """Run a check on all processes and let all of them end if it fails on any.

    Returns:
        What the check returns on this process.

    Raises:
        ConfigError: On the first process, with the messages of all.
        SystemExit: On the others, which then have nothing to add.
    """
    result = message = None
    try:
        result = check()
    except ConfigError as error:
        message = str(error)
    messages = dict.fromkeys(m for m in all_gather_object(message) if m is not None)
    if not messages:
        return result
    if get_rank() != 0:
        sys.exit(2)
    raise ConfigError('\n'.join(messages))


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
    """Run a tool as a command: what the user can mend is a message and exit code 2.

    Interrupted (Ctrl-C, SIGTERM) it unwinds, so that no half-written file remains.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
        if is_distributed():
            torch_dist.destroy_process_group()
    except ConfigError as error:
        by_torchrun = 'TORCHELASTIC_ERROR_FILE' in os.environ
        if not by_torchrun or get_rank() == 0:
            print(f'error: {error}', file=sys.stderr)
        if by_torchrun:
            # Its report comes last; let it end with the message.
            error.__cause__ = None
            get_error_handler().record_exception(error.with_traceback(None))
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
