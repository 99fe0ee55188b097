# Copyright (c) mmcim contributors. All rights reserved.
"""The resolved recipe of a config, independent of the files that it is composed of.

No checkpoint is loaded: models are built on the meta device, and schedules are simulated
with epochs of a few iterations.
"""

import hashlib
import inspect
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.registry import DATASETS, LOOPS, MODELS, TRANSFORMS
from torch import nn

from mmcim.engine.lr_scaling import lr_ratio, scaled_schedulers
from mmcim.models import CIM
from mmcim.utils import load_config

from .store import rounded

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob('*.py')
    # Neither what has no network nor what needs mmdetection.
    if not {'_base_', 'detection'} & {*path.parts} and not path.stem.endswith('_masks')
)
EPOCH_LENGTH = 5  # iterations per simulated epoch
LONG_EPOCH = 100  # likewise, where a warm-up is counted in iterations
MIN_ITERS = 400  # of a simulated schedule that is counted in iterations
MAX_INLINE = 50  # characters; longer values are stored once and shared
POINTS = (0, 0.01, 0.1, 0.5, 1)  # fractions of the training

# Arguments that affect neither images nor modules.
_SILENT = {'meta_keys', 'checkpoint', 'pipeline', 'persistent_workers', 'non_blocking'}


@MODELS.register_module()
class AbsentTokenizer(nn.Module):
    """Replaces a tokenizer, which has no parameters but would load its weights."""

    def __init__(self, **kwargs) -> None:
        super().__init__()

    def check_fit(self, **kwargs) -> None:
        pass


def measure_all() -> dict[str, Any]:
    """Resolve all configs.

    Returns:
        dict: ``configs``, a recipe each, and ``parts``, the long values that recipes
        share, keyed by a hash of their content.
    """
    configs, parts = {}, {}
    with bases_read_once():
        for name in NAMES:
            configs[name] = {}
            for key, value in measure(name).items():
                content = json_of(value)
                if len(content) > MAX_INLINE:
                    digest = hashlib.sha256(content.encode()).hexdigest()
                    parts[f'{key}-{digest[:8]}'] = value
                    value = f'{key}-{digest[:8]}'
                configs[name][key] = value
    return dict(configs=configs, parts=parts)


def expanded(stored: dict[str, Any], name: str) -> dict[str, Any]:
    """The recipe of a config as :func:`measure` gives it."""
    parts = stored['parts']
    return {
        key: parts.get(value, value) if isinstance(value, str) else value
        for key, value in stored['configs'][name].items()
    }


def measure(name: str) -> dict[str, Any]:
    """Resolve one config, named by its path below ``configs``."""
    cfg = load_config(CONFIGS / name)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        recipe = model_recipe(cfg) | data_recipe(cfg)
        if cfg.get('optim_wrapper'):
            recipe |= training_recipe(cfg, name)
    return {key: value for key, value in recipe.items() if value is not None}


def model_recipe(cfg: Config) -> dict[str, Any]:
    """Sub-models, one line each, preprocessing, and hooks."""
    model = cfg.model.to_dict()
    kind = model.pop('type')
    backbone = model.get('backbone') or model['enhancer']['backbone']
    preprocessor = model.pop('data_preprocessor', None) or cfg.data_preprocessor
    augments = (model.get('train_cfg') or {}).pop('augments', [])
    model = _defaults(kind) | model
    parts = {k: model.pop(k) for k, v in list(model.items()) if _has_type(v)}
    hooks = cfg.get('custom_hooks') or []
    return dict(
        model=f'{kind}{text(model)}',
        backbone=_plain(backbone['type']),
        submodels={key: text(part) for key, part in parts.items()},
        preprocessor=text(preprocessor),
        batch_augments=[text(augment) for augment in _listed(augments)],
        hooks=[text(h) if 'EMA' in h.type else _plain(h.type) for h in hooks],
        sync_bn=cfg.get('sync_bn'),
    )


def data_recipe(cfg: Config) -> dict[str, Any]:
    """Datasets and transforms; the loop of a frozen probe holds its training data."""
    loop = dict(cfg.get('test_cfg') or {})
    train = loop.pop('train_dataloader', None) or cfg.get('train_dataloader')
    found = dict(test_loop=text(loop))
    for split, loader in dict(train=train, test=cfg.get('test_dataloader')).items():
        if loader is None:
            continue
        dataset = loader['dataset']
        found[f'{split}_data'] = text(dataset)
        found[f'{split}_batch_size'] = loader.get('batch_size')
        found[f'{split}_transforms'] = [text(step) for step in _pipeline(dataset)]
    return found


def training_recipe(cfg: Config, name: str) -> dict[str, Any]:
    """Batch size, length, optimizer, learning rates and parameter groups."""
    wrapper, scaling = cfg.optim_wrapper, cfg.get('auto_scale_lr') or {}
    length = {k: cfg.train_cfg.get(k) for k in ('max_epochs', 'max_iters')}
    batch, accumulated = cfg.train_dataloader.batch_size, accumulation(cfg)
    processes = number_of_processes(cfg, name)
    ratio = lr_ratio(processes * batch * accumulated, **scaling)
    lr = wrapper.optimizer.lr * ratio
    schedulers = scaled_schedulers(cfg.param_scheduler, ratio)
    groups, lowest, optimizer = parameter_groups(_model(cfg), _grouping(wrapper))
    return dict(
        batch=f'{processes} processes x {batch} x {accumulated} accumulated',
        length=' '.join(f'{k}={v}' for k, v in length.items() if v),
        base_batch=scaling.get('base_batch_size') if scaling else None,
        base_lr=rounded(wrapper.optimizer.lr, 6),
        lr=rounded(lr, 6),
        optimizer=optimizer,
        wrapper=_plain(wrapper.get('type', 'OptimWrapper')),
        clip_grad=text(wrapper.get('clip_grad')),
        groups=groups,
        schedule=learning_rates(lr, lowest, json_of(schedulers), json_of(length)),
    )


def accumulation(cfg: Config) -> int:
    return cfg.optim_wrapper.get('accumulative_counts', 1)


def number_of_processes(cfg: Config, name: str) -> int:
    """From the config's name, else from its base batch size, else one."""
    named = re.search(r'_(\d+)xb\d+', name)
    if named:
        return int(named[1])
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size', 0)
    return max(1, base // (cfg.train_dataloader.batch_size * accumulation(cfg)))


@cache
def parameter_groups(model: str, wrapper: str) -> tuple[dict[str, list[int]], float, str]:
    """Count tensors and elements per sub-model, learning rate and weight decay.

    Args:
        model (str): Its config as JSON, which is hashable.
        wrapper (str): Config of the optimizer wrapper as JSON, with a learning rate of 1.

    Returns:
        tuple[dict[str, list[int]], float, str]: The groups, the lowest learning-rate
        multiplier, and the optimizer with its arguments.
    """
    with (
        torch.device('meta'),
        patch.object(CIM, '_check_fit', create=True),
        # mmpretrain's ResNet calls .item() on its drop path rates.
        patch('torch.linspace', partial(torch.linspace, device='cpu')),
    ):
        built = ROOT_MODELS.build(json.loads(model))
        optimizer = build_optim_wrapper(built, json.loads(wrapper)).optimizer
    groups = {}
    for group in optimizer.param_groups:
        part, rate = group.get('network') or 'all', rounded(group['lr'], 6)
        key = f'{part}: lr x{rate:g} decay {group["weight_decay"]:g}'
        counts = groups.setdefault(key, [0, 0])
        counts[0] += len(group['params'])
        counts[1] += sum(param.numel() for param in group['params'])
    kept = ('betas', 'eps', 'momentum', 'nesterov', 'weight_decay')
    known = {key: optimizer.defaults[key] for key in kept if key in optimizer.defaults}
    lowest = min(rounded(group['lr'], 6) for group in optimizer.param_groups)
    return groups, lowest, text(dict(type=type(optimizer).__name__, **known))


@cache
def learning_rates(
    lr: float, lowest: float, schedulers: str, length: str
) -> dict[str, list[float]]:
    """Simulate a schedule with one dummy parameter, two with layer-wise decay.

    Args:
        lr (float): The learning rate.
        lowest (float): The lowest layer-wise multiplier.
        schedulers (str): Configs as JSON.
        length (str): ``max_epochs`` and ``max_iters`` as JSON.

    Returns:
        dict[str, list[float]]: The ``highest`` and ``lowest`` group at :data:`POINTS`.
    """
    configs, iters, epoch_length = shortened(_listed(json.loads(schedulers)), length)
    groups = [
        dict(params=[nn.Parameter(torch.zeros(()))], lr=lr * rate)
        for rate in sorted({1.0, lowest}, reverse=True)
    ]
    optimizer = torch.optim.SGD(groups, lr=lr)
    built = [
        PARAM_SCHEDULERS.build(
            config, default_args=dict(optimizer=optimizer, epoch_length=epoch_length)
        )
        for config in configs
    ]
    seen = []
    for iteration in range(1, iters + 1):
        seen.append([rounded(group['lr'], 6) for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in built:
            if not scheduler.by_epoch or iteration % epoch_length == 0:
                scheduler.step()
    at = [min(round(point * iters), iters - 1) for point in POINTS]
    rates = zip(*(seen[i] for i in at), strict=True)
    return dict(zip(('highest', 'lowest'), map(list, rates), strict=False))


def shortened(schedulers: list[dict], length: str) -> tuple[list[dict], int, int]:
    """Shorten epochs to a few iterations, and iterations by a common divisor.

    Returns:
        tuple[list[dict], int, int]: Schedulers, iterations, iterations per epoch.
    """
    length = json.loads(length)
    for scheduler in schedulers:
        by_epoch = scheduler.get('by_epoch', True)
        scheduler.setdefault('end', length['max_epochs' if by_epoch else 'max_iters'])
    if length['max_epochs']:
        by_epoch = all(scheduler.get('by_epoch', True) for scheduler in schedulers)
        per_epoch = EPOCH_LENGTH if by_epoch else LONG_EPOCH
        return schedulers, length['max_epochs'] * per_epoch, per_epoch
    counts = ('begin', 'end', 'T_max')
    iters = length['max_iters']
    common = math.gcd(iters, *(s[k] for s in schedulers for k in counts if s.get(k)))
    divisors = (d for d in range(common, 0, -1) if common % d == 0)
    factor = next((d for d in divisors if iters // d >= MIN_ITERS), 1)
    for scheduler in schedulers:
        for key in counts:
            if scheduler.get(key):
                scheduler[key] //= factor
    return schedulers, iters // factor, iters // factor


def text(node: Any) -> str:
    """A config in one line, sorted, with the defaults of mmcim's own classes.

    Stating a default and leaving it out are the same recipe.
    """
    if isinstance(node, dict):
        kind = node.get('type', '')
        items = {**_defaults(kind), **node} if isinstance(kind, str) else dict(node)
        inside = ', '.join(
            f'{key}={text(value)}'
            for key, value in sorted(items.items())
            if key not in _SILENT and key != 'type' and not _negligible(key, value)
        )
        return f'{_plain(kind)}({inside})'
    if isinstance(node, list | tuple):
        return f'[{", ".join(map(text, node))}]'
    return f'{node:.10g}' if isinstance(node, float) else str(node)


def _negligible(key: str, value: Any) -> bool:
    """Whether an argument is a checkpoint to load, or empty."""
    if key == 'init_cfg' and isinstance(value, dict):
        return value.get('type') == 'Pretrained'
    return value == {} or (key in ('init_cfg', 'data_preprocessor') and value is None)


@cache
def _defaults(kind: str) -> dict[str, Any]:
    found = {}
    registries = (MODELS, TRANSFORMS, DATASETS, LOOPS) if kind else ()
    cls = next(filter(None, (registry.get(kind) for registry in registries)), None)
    for part in reversed(getattr(cls, '__mro__', ())):
        if part.__module__.startswith('mmcim.') and '__init__' in vars(part):
            found |= {
                key: parameter.default
                for key, parameter in inspect.signature(part.__init__).parameters.items()
                if parameter.default is not parameter.empty
            }
    return found


def _model(cfg: Config) -> str:
    """The model's config without what has no parameters: more configs share one."""
    model = _without(cfg.model.to_dict(), {'init_cfg', 'masking', 'train_cfg'})
    if model.get('tokenizer'):
        model['tokenizer'] = dict(type='AbsentTokenizer')
    return json_of(model)


def _without(node: Any, keys: set[str]) -> Any:
    if isinstance(node, dict):
        return {k: _without(v, keys) for k, v in node.items() if k not in keys}
    return [_without(item, keys) for item in node] if isinstance(node, list) else node


def _grouping(wrapper: dict) -> str:
    """The part of an optimizer wrapper that determines parameter groups."""
    kept = {k: wrapper[k] for k in ('constructor', 'paramwise_cfg') if k in wrapper}
    optimizer = {**wrapper.optimizer, 'lr': 1.0}
    return json_of(dict(type='OptimWrapper', optimizer=optimizer, **kept))


def json_of(node: Any) -> str:
    return json.dumps(node, sort_keys=True)


def _has_type(node: Any) -> bool:
    first = node[0] if isinstance(node, list) and node else node
    return isinstance(first, dict) and 'type' in first


def _plain(kind: str) -> str:
    return kind.removeprefix('mmpretrain.')


def _listed(node: Any) -> list:
    return node if isinstance(node, list) else [] if node is None else [node]


def _pipeline(dataset: dict) -> list[dict]:
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset.get('pipeline') or []


@contextmanager
def bases_read_once() -> Iterator[None]:
    """Cache the base files of configs, each of which is read dozens of times."""
    read, files = Config._file2dict, {}

    def once(filename: str, *args, **kwargs) -> tuple:
        key = str(Path(filename).absolute())
        if key not in files:
            files[key] = read(filename, *args, **kwargs)
        return deepcopy(files[key])

    with patch.object(Config, '_file2dict', staticmethod(once)):
        yield
