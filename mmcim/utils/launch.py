# Copyright (c) mmcim contributors. All rights reserved.
"""From a config file to a runner."""

import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..dependencies import INSTALL_MMDET
from ..paths import configs_dir
from .building import TOP_LEVEL, check_keys, explain_build_errors, nearest
from .errors import ConfigError
from .files import refuse_code
from .nested import walk


def load_config(
    path: str | Path,
    options: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    work_dir: str | None = None,
    launcher: str = 'none',
    pretrained: str | None = None,
) -> Config:
    """Read a config file and settle what every tool needs in it.

    Args:
        path: The config file, or the name of a shipped one as in
            ``mmcim::cim/vit-b_8xb256-300e.py``.
        options: Dotted keys to override, and their values.
        work_dir: Goes before the config's own; with neither it is
            ``work_dirs/<path below configs>``, or ``work_dirs/<name>`` elsewhere.
        launcher: 'none', 'pytorch' or 'slurm'.
        pretrained: File of the backbone of a classifier, segmentor or detector, which
            also settles its architecture; see
            :func:`mmcim.checkpoints.adopt_pretrained`.

    Returns:
        The config.

    Raises:
        ConfigError: If a file does not exist, or what overrides does not fit.
    """
    path = find_config(path)
    refuse_code(path)
    try:
        cfg = Config.fromfile(path)
        if cfg.get('default_scope') == 'mmdet':
            import_module('mmdet')
    except Exception as error:  # it is code, as is what it inherits
        text = f'config {path}: {type(error).__name__}: {error}'
        if isinstance(error, ModuleNotFoundError) and 'mmdet' in str(error):
            text += f'\nInstall it with: {INSTALL_MMDET}'
        raise ConfigError(text) from error
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
    stem = str(Path(path).absolute().with_suffix(''))
    _, found, below = stem.rpartition('/configs/')
    default = os.path.join('work_dirs', below if found else Path(stem).name)
    cfg.work_dir = work_dir or cfg.get('work_dir') or default
    cfg.launcher = launcher
    if pretrained:
        own = cfg.get('model', {}).get('backbone')
        if not own:
            raise ConfigError(f'--pretrained: {path} has no model.backbone to set')
        if not own.type.endswith('PretrainedBackbone'):
            own.default_type, own.type = own.type, 'mmpretrain.PretrainedBackbone'
        own.checkpoint = pretrained
    if cfg.get('default_scope') == 'mmpretrain':
        # mmpretrain's configs leave this to mmpretrain's own tools.
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(name):
                cfg[name].setdefault('collate_fn', ConfigDict(type='default_collate'))
    return cfg


def find_config(path: str | Path) -> str:
    """Resolve the name of a shipped config; the path of another file stays as it is.

    Raises:
        ConfigError: If there is neither.
    """
    name, folder = str(path), configs_dir()
    if os.path.exists(name):
        return name
    shipped = name.removeprefix('mmcim::')
    if shipped != name and (folder / shipped).is_file():
        return str(folder / shipped)
    names = [p.relative_to(folder).as_posix() for p in folder.rglob('[!_]*.py')]
    close = nearest(shipped.removeprefix('configs/'), names).replace("'", "'mmcim::", 1)
    raise ConfigError(f'config {path} does not exist.{close}')


def initial_weights(cfg: Config) -> list[str]:
    """List the files that a config's model and its backbone are initialised with."""
    keys = ('model.init_cfg.checkpoint', 'model.backbone.init_cfg.checkpoint')
    return [v for key, v in walk(cfg.get('model'), 'model') if key in keys and v]


def build_runner(cfg: Config, mode: str | None = None) -> Runner:
    """Build the runner that the config asks for.

    Args:
        cfg: The complete config; without ``runner_type`` it gets a ``StrictRunner``.
        mode: 'train', 'val' or 'test' if it is for that.

    Returns:
        The runner.

    Raises:
        ConfigError: For everything in the config that cannot be built; see
            :func:`mmcim.utils.building.check_keys`.
    """
    if mode and cfg.get(f'{mode}_dataloader') is None:
        check_keys(cfg)  # it may be misspelt, or a config of mmcls 0.x
        raise ConfigError(f'{mode}_dataloader is missing: the config cannot {mode}')
    cfg.setdefault('runner_type', 'StrictRunner')
    with explain_build_errors(cfg):
        return RUNNERS.build(cfg)
