# Copyright (c) mmcim contributors. All rights reserved.
"""Whether schedules, length, batch, classes, metrics and data of a run fit together."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.optim import ConstantParamScheduler
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner, ValLoop
from mmpretrain.models import BaseSelfSupervisor
from torch import nn

from ..datasets.inspect import inspect_dataset
from ..datasets.transforms import list_skipped
from ..utils.building import explain_build_errors, nearest
from ..utils.errors import ConfigError
from .run_record import compare, describe_data, first_few, unwrapped


def check_plan(runner: Runner) -> None:
    """Find settings that each are right, and together not what anybody means.

    Args:
        runner: With all built that is about to run, and its record if it trains.

    Raises:
        ConfigError: If a schedule does not end where training ends or counts what it does
            not, a warm-up lasts to the end, the data are less than a batch, model, labels
            and metrics are for other numbers of classes, or a head cannot learn.
    """
    problems = [*_classes(runner)]
    if isinstance(runner._train_loop, BaseLoop):
        problems += [*_schedules(runner), *_batch(runner)]
        problems += softmax_of_one(runner.model)
    if problems:
        raise ConfigError(first_few(problems))


def check_data(runner: Runner) -> None:
    """Look at images, masks and labels of all that is about to run, in the main process.

    Args:
        runner: See :func:`check_plan`. What its training skips is listed in
            ``unreadable_images.txt`` in its work directory.

    Raises:
        ConfigError: See :func:`mmcim.datasets.inspect_dataset`.
    """
    path = Path(runner.work_dir, 'unreadable_images.txt')
    ignored = {getattr(m, 'ignore_index', 255) for m in runner.model.modules()}
    for mode, loop in _loops(runner):
        dataset = loop.dataloader.dataset
        if mode == 'train':
            list_skipped(dataset, str(path))
        if not is_main_process():
            continue
        if mode == 'train' and not runner._resume:
            path.unlink(missing_ok=True)
        with explain_build_errors(runner.cfg, f'{mode}_dataloader.dataset'):
            size = describe_data(dataset)['image_size']
            inspect_dataset(dataset, mode == 'train', size, ignored)


def compare_data(runner: Runner, trained: dict[str, Any] | None) -> None:
    """Warn of class names and sizes that differ from the training's, which may be meant.

    Sizes of images are compared if the backbone has one.

    Args:
        runner: See :func:`check_plan`.
        trained: Record of the training, of this run or of a checkpoint, if it has one.
    """
    if not trained or isinstance(unwrapped(runner.model), BaseSelfSupervisor):
        return
    backbone = getattr(unwrapped(runner.model), 'backbone', None)
    names = ['classes', 'image_size'] if hasattr(backbone, 'img_size') else ['classes']
    first = trained['train_dataloader']['dataset']
    for mode, loop in _loops(runner):
        second = describe_data(loop.dataloader.dataset)
        known = [name for name in names if first[name] and second[name]]
        left, right = ({name: part[name] for name in known} for part in (first, second))
        if differences := compare(left, right, 'training', mode):
            runner.logger.warning(f'The data differ: {first_few(differences.values())}.')


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
    if wanted == {'auto'} or type(loop) is not ValLoop:  # others have other metrics
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


def _loops(runner: Runner) -> Iterator[tuple[str, BaseLoop]]:
    for mode in ('train', 'val', 'test'):
        loop = getattr(runner, f'_{mode}_loop')
        if isinstance(loop, BaseLoop):
            yield mode, loop


def _schedules(runner: Runner) -> Iterator[str]:
    schedulers = runner.param_schedulers or []
    by_epoch = isinstance(runner._train_loop, EpochBasedTrainLoop)
    for place, scheduler in enumerate(schedulers):
        key = f'param_scheduler.{place} ({type(scheduler).__name__})'
        total = runner.max_epochs if scheduler.by_epoch else runner.max_iters
        begin, end = scheduler.begin, scheduler.end
        end = begin + getattr(scheduler, 'T_max', end - begin)
        last_step = begin + max(getattr(scheduler, 'milestones', [0]))
        goes_on = isinstance(scheduler, ConstantParamScheduler) or any(
            other.param_name == scheduler.param_name
            and (other.begin >= scheduler.end or other.begin < scheduler.end < other.end)
            for other in schedulers
        )
        if scheduler.by_epoch and not by_epoch:
            yield f'{key} counts epochs, but training iterations: set by_epoch=False'
        elif last_step >= total:
            yield f'{key} has its last step at {last_step} of {total}: lower milestones'
        elif getattr(scheduler, 'start_factor', 1) < getattr(scheduler, 'end_factor', 1):
            if end >= total:
                unit = 'epochs' if scheduler.by_epoch else 'iterations'
                yield f'{key} warms up until {end} of {total} {unit}: lower its end'
        elif end != total and not goes_on:
            yield f'{key} ends at {end}, but training at {total}: leave out end, T_max'


def _batch(runner: Runner) -> Iterator[str]:
    data = runner.record['train_dataloader']
    batch, size = data['images_per_iteration'], data['dataset']['size']
    batches = runner.train_dataloader.batch_sampler
    # Endless samplers, which can skip samples, fill each batch.
    if size < batch and batches.drop_last and not hasattr(batches.sampler, 'skip'):
        key = 'train_dataloader.batch_size'
        yield f'{size} images, fewer than a batch of {batch}: lower {key}'


def _classes(runner: Runner) -> Iterator[str]:
    model = unwrapped(runner.model)
    for mode, loop in _loops(runner):
        metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', [])
        classes = getattr(loop.dataloader.dataset, 'metainfo', {}).get('classes')
        judged = metrics or mode == 'train'  # not by frozen features alone
        if not (classes and judged) or isinstance(model, BaseSelfSupervisor):
            continue
        for metric in metrics:
            if max(getattr(metric, 'topk', [0])) > len(classes):
                what = f'{mode}_evaluator.topk={metric.topk} of {len(classes)} classes'
                yield f'{what}: set topk=(1,)'
        for name, module in model.named_modules():
            number = getattr(module, 'num_classes', None) or len(classes)
            reads = getattr(module, 'to_onehot', True)  # a data preprocessor may not
            reads &= name != 'rpn_head'  # it tells objects from background
            if number != len(classes) and reads and not name.startswith('backbone'):
                owner = '' if name == 'data_preprocessor' else 'model.'
                yield (
                    f'{owner}{name}.num_classes is {number}, but {mode}_dataloader has '
                    f'{len(classes)} classes: set it to {len(classes)}'
                )


def softmax_of_one(model: nn.Module) -> Iterator[str]:
    """Find heads that cannot learn: a softmax over one class is always 1."""
    if hasattr(model, 'roi_head'):  # background is a class of its own
        return
    for name, head in model.named_modules():
        sigmoids = [getattr(part, 'use_sigmoid', True) for part in head.modules()]
        if getattr(head, 'num_classes', None) == 1 and not all(sigmoids):
            yield f'model.{name} has one class: set num_classes=2 or use_sigmoid=True'
