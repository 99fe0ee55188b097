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
from typing import ClassVar, TypeVar

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

from .errors import ConfigError

# Where Slurm says what torchrun does.
_SLURM = dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
T = TypeVar('T')


class _CfgOptions(DictAction):
    """mmengine's ``DictAction``, whose exceptions become argparse's one-line errors."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Add the options to those read before."""
        keys = [*(getattr(namespace, self.dest) or ())]
        for text in values:
            key, equals, _ = text.partition('=')
            if not (key and equals):
                parser.error(f'{option_string}: {text!r} is not KEY=VALUE')
            if key in keys:
                parser.error(f'{option_string}: {key} is given twice')
            keys.append(key)
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that do not match
            parser.error(f'{option_string}: {error}')


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


class _FormattedOnce(Config):
    """A config whose text is formatted once as long as it stays the same.

    mmengine asks for it five times in a run, each of which takes yapf half a second.
    """

    _texts: ClassVar[dict[str, str]] = {}

    @property
    def pretty_text(self) -> str:
        """The config as Python text."""
        content = repr(self._cfg_dict)
        if content not in self._texts:
            self._texts[content] = super().pretty_text
        return self._texts[content]


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
        formatted = _FormattedOnce.__new__(_FormattedOnce)
        formatted.__dict__.update(cfg.__dict__)  # all that a lazy config has besides
        cfg = formatted
    except FileNotFoundError as error:
        raise ConfigError(f'{path} inherits from a missing file: {error}') from error
    except TypeError as error:  # a dict in the place of something else
        raise ConfigError(f'{path} does not fit what it inherits: {error}') from error
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


def drop_pretrained(node: object) -> None:
    """Forget where the weights of a model were from before it was trained.

    A checkpoint has all of them, and the other file need not be at hand any more.

    Args:
        node (object): The config of the model, changed in place.
    """
    if isinstance(node, list):
        for item in node:
            drop_pretrained(item)
    elif isinstance(node, dict):
        init = node.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            node['init_cfg'] = None
        for value in node.values():
            drop_pretrained(value)


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


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config asks for.

    Args:
        cfg (Config): The complete config.

    Returns:
        Runner: The runner.

    Raises:
        ConfigError: For what models say about arguments that do not fit and files that
            are missing. With ``log_level = 'DEBUG'`` the original error is raised.
    """
    try:
        return Runner.from_cfg(cfg) if 'runner_type' not in cfg else RUNNERS.build(cfg)
    except (ValueError, FileNotFoundError) as error:
        if cfg.get('log_level') == 'DEBUG':
            raise
        raise ConfigError(
            f"{str(error) or repr(error)} (log_level='DEBUG' shows where this was found)"
        ) from error


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
        print(f'error: {error}', file=sys.stderr)
        if 'TORCHELASTIC_ERROR_FILE' in os.environ:
            # torchrun's own report comes last; let it end with the message.
            get_error_handler().record_exception(error.with_traceback(None))
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
