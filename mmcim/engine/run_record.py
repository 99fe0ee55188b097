# Copyright (c) mmcim contributors. All rights reserved.
"""The run record: what a run's numbers depend on, as one dict, and its comparison.

It stands in ``checkpoint['meta']['run']``; :mod:`mmcim.engine.checks` compares it on
resume, across processes, and with the data sets of validation and test.
"""

import math
from collections.abc import Iterable
from typing import Any

import mmengine
import mmpretrain
import numpy as np
import torch
from mmengine.model import BaseModel, BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import Dataset

from ..checkpoints.layout import normalization
from ..models.tokenizers.base import BaseTokenizer
from ..utils.nested import walk
from ..version import __version__
from .hooks.safe_checkpoint import to_plain

# How an optimizer computes, not what.
_IMPLEMENTATION = {'foreach', 'fused', 'capturable', 'differentiable'}
# Where a scheduler is, not what it does.
_PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}
# Tensors in each parameter group, which no optimizer state can be loaded without.
TENSORS_PER_GROUP = 'tensors_per_group'
_SHOWN = 3  # differences in a message


def describe_run(runner: Runner) -> dict[str, Any]:
    """Record what the numbers of a training depend on.

    Args:
        runner: With everything built for training, before a checkpoint is loaded.

    Returns:
        Plain values under the dotted names that configs have, as far as there are such.
        What ``environment`` holds changes numbers by rounding and random draws alone.
    """
    loop, loader = runner._train_loop, runner.train_dataloader
    wrapper, model = runner.optim_wrapper, unwrapped(runner.model)
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    end = 'max_epochs' if by_epoch else 'max_iters'
    data = dict(
        images_per_iteration=runner.world_size * loader.batch_sampler.batch_size,
        iterations_per_epoch=len(loader) if by_epoch else None,
        dataset=describe_data(loader.dataset),
    )
    optim = dict(
        accumulative_counts=wrapper._accumulative_counts,
        clip_grad=wrapper.clip_grad_kwargs,
        optimizer=_describe_optimizer(wrapper.optimizer),
    )
    return to_plain(
        dict(
            train_cfg={end: getattr(loop, end)},
            train_dataloader=data,
            optim_wrapper=optim,
            param_scheduler=list(map(_describe_scheduler, runner.param_schedulers or ())),
            data_preprocessor=normalization(model),
            randomness=dict(seed=runner.cfg.get('randomness', {}).get('seed')),
            tokenizers=describe_tokenizers(model),
            environment=dict(
                processes=runner.world_size,
                precision=_precision(wrapper),
                tf32=runner.cfg.get('env_cfg', {}).get('tf32'),
                **{m.__name__: m.__version__ for m in (torch, mmengine, mmpretrain)},
                mmcim=__version__,
            ),
        )
    )


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Record the number of images, the class names, and the sides of the last resize."""
    image_size = None
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        size = getattr(transform, 'crop_size', None) or getattr(transform, 'scale', None)
        if size is not None and np.asarray(size).dtype.kind == 'i':  # not a factor
            fixed = not getattr(transform, 'keep_ratio', False)
            image_size = sorted(np.resize(size, 2)) if fixed else None
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    return dict(size=len(dataset), classes=classes, image_size=image_size)  # type: ignore[arg-type]


def describe_tokenizers(model: nn.Module) -> dict[str, dict[str, str]]:
    """Name of each tokenizer in a model -> its type, file and hash."""
    tokenizers = {n: m for n, m in model.named_modules() if isinstance(m, BaseTokenizer)}
    return {name: module.identity for name, module in tokenizers.items()}


def unwrapped(model: BaseModel) -> BaseModel:
    """The model in the wrappers for several processes and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def compare(first: dict, second: dict, of_first: str, of_second: str) -> dict[str, str]:
    """List what differs between two records.

    Lists are compared by position. What only one of them has differs, unless it is None
    or False there, which is what versions that do not know it do. A tokenizer's file may
    move, as long as its hash is the same.

    Args:
        first: Nested containers of plain values.
        second: Likewise.
        of_first: What the first is of, for the text.
        of_second: Likewise.

    Returns:
        Dotted name -> text that has it and both values.
    """
    a, b = _values(first), _values(second)
    differ = [name for name in {**a, **b} if not _same(a.get(name), b.get(name))]
    return {
        name: f'{name} is {a.get(name)} in {of_first} and {b.get(name)} in {of_second}'
        for name in differ
        if not name.endswith('.source') or f'{name[:-6]}sha256' in differ
    }


def first_few(texts: Iterable[str]) -> str:
    """Give the first few texts and the number of the others in one line."""
    texts = [*texts]
    shown, rest = texts[:_SHOWN], len(texts) - _SHOWN
    return '; '.join(shown + [f'{rest} more differences'] * (rest > 0))


def _describe_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    kept = {k: v for k, v in optimizer.defaults.items() if k not in _IMPLEMENTATION}
    for name in ('lr', 'weight_decay'):  # of all groups
        values = {g.get(f'initial_{name}', g.get(name)) for g in optimizer.param_groups}
        kept[name] = values.pop() if len(values) == 1 else sorted(values)
    kept[TENSORS_PER_GROUP] = [len(group['params']) for group in optimizer.param_groups]
    return dict(type=type(optimizer).__name__, **kept)


def _describe_scheduler(scheduler: _ParamScheduler) -> dict[str, Any]:
    state = {k: v for k, v in scheduler.state_dict().items() if k not in _PROGRESS}
    return dict(type=type(scheduler).__name__, **state)


def _precision(wrapper: OptimWrapper) -> str:
    # mmengine's wrapper for mixed precision takes None for float16.
    dtype = getattr(wrapper, 'cast_dtype', torch.float32) or torch.float16
    name = str(dtype).removeprefix('torch.')
    return name if dtype is torch.float32 else f'{name} autocast'


def _values(record: dict) -> dict[str, Any]:
    """Dotted names -> values that are no containers."""
    return {k: v for k, v in walk(record) if not isinstance(v, dict | list | tuple)}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-5)
    return a == b or all(value is None or value is False for value in (a, b))
