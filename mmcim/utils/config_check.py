# Copyright (c) mmcim contributors. All rights reserved.
"""Look through a config for what would otherwise fail late, or not at all.

Keys are spelt right, data are there, and the work directory can be written: all of that
can be seen before anything is built.
"""

import inspect
import os
import tempfile

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope
from mmengine.utils import to_2tuple

from .config_keys import check_keys, find_builder, is_missing
from .errors import ConfigError
from .signatures import accepted_arguments


def check_config(cfg: Config, mode: str = 'train') -> None:
    """Check spelling, data and work directory of a config before anything is built.

    Args:
        cfg (Config): The complete config, with ``work_dir``.
        mode (str): 'train' looks at the data of training and validation, 'test' at
            those of the test. Defaults to 'train'.

    Raises:
        ConfigError: For the first key that no class takes, type that is not registered,
            file or folder of data that is missing or empty, checkpoint that is missing,
            or a work directory that cannot be written. It names the dotted key.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        check_keys(cfg)
        _check_complete(cfg, mode)
        for name in ('train', 'val') if mode == 'train' else ('test',):
            loader = cfg.get(f'{name}_dataloader')
            if loader:
                _check_data(loader.dataset, f'{name}_dataloader.dataset')
        _check_masks(cfg)
    if cfg.get('load_from') and is_missing(cfg.load_from):
        raise ConfigError(f'load_from: checkpoint {cfg.load_from} does not exist')
    _check_work_dir(cfg.work_dir)


def _check_complete(cfg: Config, mode: str) -> None:
    for name in ('train',) if mode == 'train' else ('test',):
        needed = [f'{name}_dataloader', f'{name}_cfg']
        needed.append('optim_wrapper' if name == 'train' else 'test_evaluator')
        for key in ['model', *needed]:
            if cfg.get(key) is None:
                raise ConfigError(f'{key} is missing: the config is not made to {mode}')


def _check_data(cfg: dict, key: str) -> None:
    if isinstance(cfg.get('dataset'), dict):
        _check_data(cfg['dataset'], f'{key}.dataset')
        return
    if 'datasets' in cfg:
        for i, dataset in enumerate(cfg['datasets']):
            _check_data(dataset, f'{key}.datasets.{i}')
        return
    cls, _ = find_builder(cfg['type'], DATASETS, key)
    accepted = accepted_arguments(cls) or frozenset()
    if 'download' in accepted and cfg.get('download', True):
        return
    if isinstance(cfg.get('data_root'), (list, tuple)):
        raise ConfigError(
            f'{key}.data_root: {cfg["data_root"]} is not a path. --cfg-options splits '
            'values at commas; set such a path in a config file'
        )
    if cfg.get('data_root') and is_missing(cfg['data_root']):
        raise ConfigError(
            f'{key}.data_root: folder {cfg["data_root"]} does not exist '
            f'(looked for from {os.getcwd()}){_layout(cfg)}'
        )
    if inspect.isclass(cls) and issubclass(cls, BaseDataset):
        # The class itself knows best how its paths are joined.
        try:
            dataset = DATASETS.build({**cfg, 'pipeline': [], 'lazy_init': True})
        except (AssertionError, ValueError, FileNotFoundError) as error:
            raise ConfigError(f'{key}: {str(error) or repr(error)}') from error
        _check_paths(dataset, key, _layout(cfg))


def _check_paths(dataset: BaseDataset, key: str, layout: str) -> None:
    if dataset.ann_file and is_missing(dataset.ann_file):
        raise ConfigError(
            f'{key}.ann_file: file {dataset.ann_file} does not exist{layout}'
        )
    for name, folder in dataset.data_prefix.items():
        if folder and is_missing(folder):
            raise ConfigError(
                f'{key}.data_prefix.{name}: folder {folder} does not exist{layout}'
            )
    extensions = getattr(dataset, 'extensions', None) or getattr(
        dataset, 'img_suffix', None
    )
    folder = dataset.data_prefix.get('img_path')
    if extensions and folder and not dataset.ann_file and '://' not in folder:
        by_class = getattr(dataset, 'with_label', False)
        if not _has_files(folder, extensions, below=by_class):
            where = 'in its subfolders' if by_class else 'in it'
            raise ConfigError(
                f'{key}.data_prefix.img_path: folder {folder} is empty: no file '
                f'{where} ends with {_join(extensions)}{layout}'
            )


def _has_files(folder: str, extensions: str | tuple, below: bool) -> bool:
    extensions = (extensions,) if isinstance(extensions, str) else tuple(extensions)
    for root, _, files in os.walk(folder, followlinks=True):
        if below and root == folder:
            continue
        if any(name.lower().endswith(extensions) for name in files):
            return True
    return False


def _join(extensions: str | tuple) -> str:
    return extensions if isinstance(extensions, str) else ', '.join(sorted(extensions))


def _layout(cfg: dict) -> str:
    """Describe the files that a data set wants to find."""
    root = cfg.get('data_root') or '.'
    prefix = cfg.get('data_prefix') or cfg.get('split') or ''
    if isinstance(prefix, dict):
        folders = ' and '.join(
            os.path.join(root, str(value), '<picture>')
            for value in prefix.values()
            if value
        )
    else:
        by_class = cfg.get('with_label', True) and not cfg.get('ann_file')
        parts = [root, prefix, '<class>' if by_class else '', '<picture>']
        folders = os.path.join(*[part for part in parts if part])
        if not (by_class or cfg.get('ann_file')):
            folders += ', in subfolders or not'
    if cfg.get('ann_file'):
        folders += f', listed in {os.path.join(root, cfg["ann_file"])}'
    return f'. Expected: {folders}'


def _check_masks(cfg: Config) -> None:
    """Compare the grid of the pipeline's masks with the generator's patches."""
    generator = cfg.model.get('generator')
    if not generator or cfg.model.get('masking', True) is not None:
        return
    pipeline = (cfg.get('train_dataloader') or {}).get('dataset', {}).get('pipeline', [])
    grids = [step['input_size'] for step in pipeline if 'input_size' in step]
    if not grids:
        raise ConfigError(
            'model.masking is None, but no step of train_dataloader.dataset.pipeline '
            "makes masks; add dict(type='BEiTBlockMask', input_size=(rows, columns), ...)"
        )
    backbone = generator['backbone']
    img_size = to_2tuple(backbone.get('img_size', 224))
    patch_size = to_2tuple(backbone.get('patch_size', 16))
    rows, columns = (i // p for i, p in zip(img_size, patch_size, strict=True))
    if tuple(to_2tuple(grids[-1])) != (rows, columns):
        raise ConfigError(
            f'train_dataloader.dataset.pipeline makes masks of {grids[-1]}, but '
            f'model.generator.backbone has {rows} x {columns} patches; set input_size '
            f'of the mask transform to ({rows}, {columns})'
        )


def _check_work_dir(work_dir: str) -> None:
    try:
        os.makedirs(work_dir, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir):
            pass
    except OSError as error:
        raise ConfigError(
            f'work_dir: {work_dir} cannot be written ({error.strerror}). Choose '
            'another one by --work-dir'
        ) from error
