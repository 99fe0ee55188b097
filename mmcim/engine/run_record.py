# Copyright (c) mmcim contributors. All rights reserved.
"""The run record: what a run's numbers depend on, as one dict, and its comparison.

It stands in ``checkpoint['meta']['run']`` and is compared on resume, across processes,
and between the data sets of a run.
"""

import math
from collections.abc import Sequence
from typing import Any

import mmengine
import mmpretrain
import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import AmpOptimWrapper, OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmpretrain.models import BaseSelfSupervisor
from torch import nn
from torch.utils.data import Dataset

from ..checkpoints.layout import normalization
from ..models.tokenizers.base import BaseTokenizer
from ..utils.errors import ConfigError
from ..version import __version__
from .lr_scaling import lr_ratio

# How an optimizer computes, not what.
_IMPLEMENTATION = {'foreach', 'fused', 'capturable', 'differentiable'}
# Where a scheduler is, not what it does.
_PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}
# Tensors in each parameter group, which no optimizer state can be loaded without.
_GROUPS = 'tensors_per_group'
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
    tokenizers = {
        name: dict(module.identity)
        for name, module in model.named_modules()
        if isinstance(module, BaseTokenizer)
    }
    return _plain(
        dict(
            train_cfg={end: getattr(loop, end)},
            train_dataloader=data,
            optim_wrapper=optim,
            param_scheduler=list(map(_describe_scheduler, runner.param_schedulers or ())),
            data_preprocessor=normalization(model),
            randomness=dict(seed=runner.cfg.get('randomness', {}).get('seed')),
            tokenizers=tokenizers,
            environment=dict(
                processes=runner.world_size,
                precision=_precision(wrapper),
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
    return _plain(
        dict(
            size=len(dataset),
            classes=getattr(dataset, 'metainfo', {}).get('classes'),
            image_size=image_size,
        )
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The model in the wrappers for several processes and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def compare(first: dict, second: dict) -> list[tuple[str, Any, Any]]:
    """List what differs between two records: dotted names and both values.

    Lists are compared by position. What only one of them has differs, unless it is None
    or False there, which is what versions that do not know it do. A tokenizer's file may
    move, as long as its hash is the same.
    """
    a, b = _flat(first), _flat(second)
    differ = [name for name in {**a, **b} if not _same(a.get(name), b.get(name))]
    moved = {
        name
        for name in differ
        if name.endswith('.source') and f'{name[:-6]}sha256' not in differ
    }
    return [(name, a.get(name), b.get(name)) for name in differ if name not in moved]


def report(differences: Sequence[tuple[str, Any, Any]], first: str, second: str) -> str:
    """Name the first few differences and their number in one line."""
    shown = [
        f'{name} is {a} in {first} and {b} in {second}'
        for name, a, b in differences[:_SHOWN]
    ]
    if rest := len(differences) - len(shown):
        shown.append(f'{rest} more differences')
    return '; '.join(shown)


def check_resumed(
    then: dict, now: dict, filename: str, override: bool, logger: MMLogger
) -> None:
    """Compare a run with the one that it resumes.

    Args:
        then: The record in the checkpoint.
        now: That of this run.
        filename: The checkpoint.
        override: Whether this run's settings are used where they differ.
        logger: Gets a warning of what differs and is not an error.

    Raises:
        ConfigError: If a difference changes the run's numbers and is not overridden, or
            if the optimizer's states are of other parameter groups.
    """
    warned, refused = [], []
    for difference in compare(then, now):
        name = difference[0]
        harmless = name.startswith('environment.') or (override and _GROUPS not in name)
        (warned if harmless else refused).append(difference)
    if refused:
        raise ConfigError(
            f'cannot resume from {filename} with other settings: '
            f'{report(refused, "the checkpoint", "this run")}. Restore them, or use '
            '--override (override=True) to resume with those of this run, or start a new '
            'run from its weights by load_from in another work directory'
        )
    for difference in warned:
        logger.warning(f'Resuming: {report([difference], "the checkpoint", "this run")}.')


def check_processes(record: dict) -> None:
    """Compare a dict of plain values across all processes.

    Raises:
        ConfigError: On all of them, if any has others.
    """
    everyone = all_gather_object(record)
    for rank, other in enumerate(everyone):
        if other != everyone[0] and (differences := compare(everyone[0], other)):
            raise ConfigError(
                'processes run with different settings: '
                f'{report(differences, "process 0", f"process {rank}")}. All nodes need '
                'the same config, data, versions and work directory'
            )


def check_evaluation(runner: Runner, trained: dict) -> None:
    """Compare the data of validation and test with those of the training.

    Only what both data sets have is compared: classes, unless the model is
    self-supervised; the size of images, if the backbone has an ``img_size``; and the
    normalization. Other class names and sizes may be meant, and are a warning.

    Args:
        runner: With the loops built that are about to run.
        trained: Record of the training, of this run or of a checkpoint.

    Raises:
        ConfigError: If the number of classes differs, or the normalization without
            ``override``.
    """
    model = unwrapped(runner.model)
    refused = ('num_classes',) + (() if runner.cfg.get('override') else ('mean', 'std'))
    names = ['mean', 'std']
    if not isinstance(model, BaseSelfSupervisor):
        names.append('classes')
        if hasattr(getattr(model, 'backbone', None), 'img_size'):
            names.append('image_size')
    first = trained['train_dataloader']['dataset'] | trained['data_preprocessor']
    for name, loop in dict(validation=runner._val_loop, test=runner._test_loop).items():
        if isinstance(loop, BaseLoop):
            second = describe_data(loop.dataloader.dataset) | normalization(model)
            known = [key for key in names if first[key] and second[key]]
            pair = [{key: part[key] for key in known} for part in (first, second)]
            pair = [
                dict(num_classes=len(part.get('classes', ()))) | part for part in pair
            ]
            differences = compare(*pair)
            told = report(differences, 'the training', f'the {name}')
            if any(key.startswith(refused) for key, *_ in differences):
                raise ConfigError(
                    f'the {name} does not fit the training: {told}. Use the number of '
                    'classes, mean and std of the training; override=True in the config '
                    'allows another mean and std'
                )
            if differences:
                runner.logger.warning(f'The {name} differs from the training: {told}.')


def check_normalization(
    model: nn.Module, mean: Sequence[float], std: Sequence[float], filename: str
) -> None:
    """Compare a model's normalization with the one that its backbone was trained with.

    Args:
        model: The model, not wrapped.
        mean: Of the file, on the scale 0..255.
        std: Likewise.
        filename: The file of weights.

    Raises:
        ConfigError: If they differ.
    """
    trained = dict(mean=list(mean), std=list(std))
    if differences := compare(trained, normalization(model)):
        raise ConfigError(
            'the backbone was trained with another normalization: '
            f'{report(differences, filename, "data_preprocessor")}. Set '
            f'data_preprocessor.mean={trained["mean"]} and std={trained["std"]}, or '
            'override=True'
        )


def summary(runner: Runner, origin: str) -> str:
    """What a person checks first when a training starts, as a short block.

    Args:
        runner: About to train, with its record.
        origin: What the weights come from.
    """
    record, world_size = runner.record, runner.world_size
    data, optim = record['train_dataloader'], record['optim_wrapper']
    images, counts = data['images_per_iteration'], optim['accumulative_counts']
    lr = runner.optim_wrapper.optimizer.defaults['lr']
    ratio = lr_ratio(runner.auto_scale_lr, images * counts)
    base = f' (scaled from {lr / ratio:g} at batch {images * counts / ratio:g})'
    device = next(runner.model.parameters()).device
    validation = ''
    if isinstance(runner._val_loop, BaseLoop):
        validation = f', {len(runner._val_loop.dataloader.dataset)} to validate'
    return (
        f'Training {type(unwrapped(runner.model)).__name__}:\n'
        f'  Effective batch: {images * counts} = {world_size} process(es) x '
        f'{images // world_size} x {counts} accumulated\n'
        f'  Learning rate: {lr:g}{base if ratio != 1 else ""}\n'
        f'  Images: {data["dataset"]["size"]} to train on{validation}\n'
        f'  Device: {device}, {record["environment"]["precision"]}\n'
        f'  Start: {origin}, iteration {runner.iter} of {runner.max_iters}'
    )


def _describe_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    kept = {k: v for k, v in optimizer.defaults.items() if k not in _IMPLEMENTATION}
    for name in ('lr', 'weight_decay'):  # of all groups
        values = {g.get(f'initial_{name}', g.get(name)) for g in optimizer.param_groups}
        kept[name] = values.pop() if len(values) == 1 else sorted(values)
    kept[_GROUPS] = [len(group['params']) for group in optimizer.param_groups]
    return dict(type=type(optimizer).__name__, **kept)


def _describe_scheduler(scheduler: _ParamScheduler) -> dict[str, Any]:
    state = {k: v for k, v in scheduler.state_dict().items() if k not in _PROGRESS}
    return dict(type=type(scheduler).__name__, **state)


def _precision(wrapper: OptimWrapper) -> str:
    if isinstance(wrapper, AmpOptimWrapper):
        return f'{wrapper.cast_dtype or torch.float16} autocast'
    return 'bfloat16 autocast' if getattr(wrapper, 'bf16', False) else 'float32'


def _plain(node: Any) -> Any:
    """Turn values into those that the strictest way to load a file takes."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, (np.ndarray, np.generic, torch.Tensor)):
        node = node.tolist()
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    if node is None or isinstance(node, (bool, int, float)):
        return node
    return getattr(node, '__name__', str(node))


def _flat(node: Any, name: str = '') -> dict[str, Any]:
    """Dotted names -> values that are no containers."""
    if not isinstance(node, (dict, list)):
        return {name: node}
    items = node.items() if isinstance(node, dict) else enumerate(node)
    parts = [_flat(value, f'{name}.{key}' if name else str(key)) for key, value in items]
    return {key: value for part in parts for key, value in part.items()}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-5)
    return a == b or all(value is None or value is False for value in (a, b))
