# Copyright (c) mmcim contributors. All rights reserved.
"""Whether checkpoints, initial weights, processes and evaluation data fit a run."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from mmpretrain.models import BaseSelfSupervisor
from torch import Tensor, nn

from ..checkpoints import BackboneFile, load_into
from ..checkpoints.layout import normalization
from ..models.layers.momentum import momentum_encoder_of
from ..utils.building import nearest
from ..utils.errors import ConfigError
from .run_record import (
    TENSORS_PER_GROUP,
    compare,
    describe_data,
    describe_tokenizers,
    first_few,
    unwrapped,
)

_NEEDED = ('state_dict', 'optimizer', 'message_hub', 'meta')


def latest_checkpoint(work_dir: str) -> str | None:
    """Find the checkpoint that was written last into a folder, which may have been moved.

    Raises:
        ConfigError: If ``last_checkpoint`` names a file that does not exist.
    """
    latest = find_latest_checkpoint(work_dir)
    if latest is None:
        return None
    path = os.path.join(work_dir, os.path.basename(latest))
    if not os.path.isfile(path):
        raise ConfigError(
            f'{work_dir}/last_checkpoint names {latest}, which is not there; give a '
            'checkpoint by --resume CHECKPOINT'
        )
    return path


def check_resumable(runner: Runner, checkpoint: dict, filename: str) -> None:
    """Look whether a training can resume from a checkpoint.

    Args:
        runner: About to train, with its record.
        checkpoint: The content of the file.
        filename: The file.

    Raises:
        ConfigError: If there is no training in the file, or one of another model, or if
            settings that change the numbers differ and ``override`` is not set. Nothing
            overrides other parameter groups, which the optimizer's states are of.
    """
    if missing := [key for key in _NEEDED if key not in checkpoint]:
        raise ConfigError(
            f'cannot resume from {filename}: no {", ".join(missing)} (as in best_*.pth). '
            'Resume from another one, or start a new run from its weights by load_from'
        )
    check_same_model(unwrapped(runner.model), checkpoint['state_dict'], filename)
    override, logger = runner.cfg.get('override', False), runner.logger
    if runner.resumed_record is None:
        logger.warning(f'{filename} has no run record: settings are not compared.')
    record = runner.resumed_record or runner.record
    differences = compare(record, runner.record, 'the checkpoint', 'this run')
    refused = [
        text
        for name, text in differences.items()
        if not (name.startswith('environment.') or override) or TENSORS_PER_GROUP in name
    ]
    if refused:
        raise ConfigError(
            f'cannot resume from {filename} with other settings: {first_few(refused)}. '
            'Restore them, keep those of this run by --override (override=True), or '
            'start a new run from its weights by load_from in another --work-dir'
        )
    for text in differences.values():
        logger.warning(f'Resuming: {text}.')
    counts = runner.optim_wrapper._accumulative_counts
    if lost := checkpoint['meta']['iter'] % counts:
        logger.warning(
            f'The checkpoint is {lost} iteration(s) after an optimizer step: the first '
            f'step lacks their gradients and has those of the other {counts - lost}.'
        )


def check_same_model(
    model: nn.Module, state_dict: dict[str, Tensor], filename: str
) -> None:
    """Compare a model with a checkpoint by names and shapes.

    Args:
        model: The model, not wrapped.
        state_dict: The tensors in the checkpoint.
        filename: The checkpoint, for the error.

    Raises:
        ConfigError: If any tensor differs.
    """
    own = {name: str(tuple(value.shape)) for name, value in model.state_dict().items()}
    stored = {
        name.removeprefix('module.'): str(tuple(getattr(value, 'shape', ())))
        for name, value in state_dict.items()
    }
    if differences := compare(stored, own, 'the checkpoint', 'the model'):
        raise ConfigError(
            f'checkpoint {filename} is not of the {type(model).__name__} of this config: '
            f'{len(differences)} tensors differ: {first_few(differences.values())}. Use '
            'its config, or start a new run by load_from with another --work-dir'
        )


def check_same_inputs(
    model: nn.Module, meta: Mapping[str, Any], filename: str, override: bool = False
) -> None:
    """Compare what a model sees with what a checkpoint's weights have learnt from.

    That is the tokenizers that both have, and the normalization of images.

    Args:
        model: The model, not wrapped.
        meta: The checkpoint's; without a run record nothing is compared.
        filename: The checkpoint, for the error.
        override: Whether others are meant, and only warned about.

    Raises:
        ConfigError: If any differs.
    """
    record = meta.get('run') or {}
    trained = dict(record.get('tokenizers', {}))
    own = {n: v for n, v in describe_tokenizers(model).items() if n in trained}
    first: dict[str, Any] = {name: trained[name] for name in own}
    second: dict[str, Any] = dict(own)
    if record:
        first['data_preprocessor'] = record['data_preprocessor']
        second['data_preprocessor'] = normalization(model)
    differences = compare(first, second, 'the checkpoint', 'this config')
    text = f'checkpoint {filename} learnt from others: {first_few(differences.values())}'
    if differences and not override:
        raise ConfigError(f'{text}. Use those of the checkpoint, or override=True')
    if differences:
        print_log(text, logger='current', level=logging.WARNING)


@contextmanager
def together() -> Iterator[None]:
    """Let all processes end if one of them fails; nothing inside may wait for others.

    Raises:
        ConfigError: In every process: its own, or the first of the others'.
    """
    error = None
    try:
        yield
    except ConfigError as caught:
        error = caught
    messages = [text for text in all_gather_object(error and str(error)) if text]
    if messages:
        raise error or ConfigError(messages[0])


def check_processes(record: dict[str, Any]) -> None:
    """Compare a dict of plain values across all processes.

    Raises:
        ConfigError: On all of them, if any has others.
    """
    everyone = all_gather_object(record)
    for rank, other in enumerate(everyone):
        differences = compare(everyone[0], other, 'process 0', f'process {rank}')
        if differences:
            raise ConfigError(
                'processes run with different settings: '
                f'{first_few(differences.values())}. All nodes need the same config, '
                'data, versions and work directory'
            )


def check_evaluation(runner: Runner, trained: dict[str, Any]) -> None:
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
    names = ['mean', 'std']
    refused = () if runner.cfg.get('override') else ('mean', 'std')
    if not isinstance(model, BaseSelfSupervisor):
        names.append('classes')
        if hasattr(getattr(model, 'backbone', None), 'img_size'):
            names.append('image_size')
    first = trained['train_dataloader']['dataset'] | trained['data_preprocessor']
    for name, loop in dict(validation=runner._val_loop, test=runner._test_loop).items():
        if not isinstance(loop, BaseLoop):
            continue
        second = describe_data(loop.dataloader.dataset) | normalization(model)
        known = [key for key in names if first[key] and second[key]]
        left, right = ({key: part[key] for key in known} for part in (first, second))
        for part in (left, right) if 'classes' in known else ():
            part['num_classes'] = len(part['classes'])
        differences = compare(left, right, 'the training', f'the {name}')
        text = first_few(differences.values())
        if any(key.startswith(('num_classes', *refused)) for key in differences):
            raise ConfigError(
                f'the {name} does not fit the training: {text}. Use its number of '
                'classes, mean and std; override=True allows another mean and std'
            )
        if differences:
            runner.logger.warning(f'The {name} differs from the training: {text}.')


def check_heads(model: nn.Module) -> None:
    """Find a head that cannot learn: a softmax over one class is always 1.

    Raises:
        ConfigError: If there is one.
    """
    for name, head in model.named_modules():
        sigmoids = [getattr(part, 'use_sigmoid', True) for part in head.modules()]
        if getattr(head, 'num_classes', None) == 1 and not all(sigmoids):
            raise ConfigError(
                f'model.{name} has one class, whose softmax is always 1, so that it '
                'learns nothing. Set num_classes=2, or use_sigmoid=True of its loss'
            )


@torch.no_grad()
def check_monitored(runner: Runner) -> None:
    """Validate on one image, if a hook waits for a metric, to see whether it is there.

    Hooks that keep the best checkpoint, or stop early, would find it missing only at the
    end of the first validation.

    Args:
        runner: With the loops built that are about to run.

    Raises:
        ConfigError: If validation does not give the metric.
    """
    hooks, loop = runner.hooks, runner._val_loop
    wanted = {name for hook in hooks for name in getattr(hook, 'key_indicators', ())}
    wanted |= {getattr(hook, 'monitor', 'auto') for hook in hooks}  # of early stopping
    if wanted == {'auto'} or not isinstance(loop, BaseLoop):
        return
    loader, evaluator = loop.dataloader, deepcopy(loop.evaluator)
    batch = loader.collate_fn([loader.dataset[next(iter(loader.batch_sampler))[0]]])
    runner.model.eval()  # the training loop changes it back
    evaluator.process(runner.model.val_step(batch), batch)
    metrics = evaluator.evaluate(1)
    for name in wanted - metrics.keys() - {'auto'}:
        raise ConfigError(
            f'save_best or early stopping waits for {name!r}, but validation gives '
            f'{", ".join(metrics)}.{nearest(name, metrics)}'
        )


def begin_from_weights(model: nn.Module, filename: str, override: bool = False) -> None:
    """Load all of the backbone, with which a new run starts.

    Args:
        model: The model, not wrapped. Its momentum encoder, if it has one, starts with
            the first of its steps.
        filename: Any file that :func:`mmcim.checkpoints.load_into` reads.
        override: See :func:`check_initial_weights`.

    Raises:
        ValueError: If any of the backbone's tensors is not there, or if it was trained
            with another normalization or tokenizer.
    """
    file = BackboneFile.read(filename)
    report = load_into(model, file)
    if encoder := momentum_encoder_of(model):
        encoder.begin_from(model, report.missing)
    check_initial_weights(model, override)
    check_same_inputs(model, file.meta, filename, override)


def check_initial_weights(model: nn.Module, override: bool = False) -> None:
    """Compare the normalization of a model with that of all weights loaded into it.

    Args:
        model: The model, not wrapped.
        override: Whether another one is meant, and only warned about.

    Raises:
        ValueError: If they differ.
    """
    own = normalization(model)
    for name, module in model.named_modules():
        if not getattr(module, 'normalization', None):  # as load_into sets it
            continue
        mean, std = module.normalization
        trained, origin = dict(mean=mean, std=std), f'the weights of {name}'
        differences = compare(trained, own, origin, 'data_preprocessor')
        text = (
            'the backbone was trained with another normalization: '
            f'{first_few(differences.values())}. Set data_preprocessor.mean={mean} and '
            f'std={std}, or override=True'
        )
        if differences and not override:
            raise ValueError(text)
        if differences:
            print_log(text, logger='current', level=logging.WARNING)
