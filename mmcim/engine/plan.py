# Copyright (c) mmcim contributors. All rights reserved.
"""Whether schedules, length, batch, classes and data of a run fit together."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmpretrain.models import BaseSelfSupervisor

from ..datasets.inspect import inspect_dataset
from ..datasets.transforms import list_skipped
from ..utils.errors import ConfigError
from .run_record import describe_data, first_few, unwrapped


def check_plan(runner: Runner) -> None:
    """Find settings that each are right, and together not what anybody means.

    Args:
        runner: With all built that is about to run, and its record if it trains.

    Raises:
        ConfigError: If a schedule does not end where training ends or counts what it does
            not, a warm-up lasts to the end, the data are less than a batch, or model,
            labels and metrics are for other numbers of classes.
    """
    problems = [*_classes(runner)]
    if isinstance(runner._train_loop, BaseLoop):
        problems += [*_schedules(runner), *_batch(runner)]
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
        try:
            size = describe_data(dataset)['image_size']
            inspect_dataset(dataset, mode == 'train', size, ignored)
        except ConfigError as error:
            raise ConfigError(f'{mode}_dataloader.dataset: {error}') from error


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
        # The last value of a cosine, and the last of several steps.
        end = begin + getattr(scheduler, 'T_max', end - begin)
        end = max([end, *getattr(scheduler, 'milestones', ())])
        goes_on = any(
            other.param_name == scheduler.param_name and other.begin >= scheduler.end
            for other in schedulers
        )
        if scheduler.by_epoch and not by_epoch:
            yield f'{key} counts epochs, but training iterations: set by_epoch=False'
        elif getattr(scheduler, 'start_factor', 1) < getattr(scheduler, 'end_factor', 1):
            if end >= total:
                yield (
                    f'{key} warms up until {end}, but training ends at {total}: set '
                    f'param_scheduler.{place}.end far below'
                )
        elif end != total and not goes_on:
            yield (
                f'{key} ends at {end}, but training at {total}: leave out its end and '
                'T_max, which are then those of training, and adapt milestones'
            )


def _batch(runner: Runner) -> Iterator[str]:
    data = runner.record['train_dataloader']
    batch, size = data['images_per_iteration'], data['dataset']['size']
    if size < batch and runner.train_dataloader.batch_sampler.drop_last:
        yield (
            f'train_dataloader has {size} images, fewer than the {batch} of an iteration '
            'of all processes: lower train_dataloader.batch_size, or drop_last=False'
        )


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
                yield (
                    f'{mode}_evaluator.topk={metric.topk} asks for the best '
                    f'{max(metric.topk)} of {len(classes)} classes: set topk=(1,)'
                )
        for name, module in model.named_modules():
            number = getattr(module, 'num_classes', None) or len(classes)
            reads = getattr(module, 'to_onehot', True)  # a data preprocessor may not
            if number != len(classes) and reads and not name.startswith('backbone'):
                yield (
                    f'model.{name}.num_classes is {number}, but {mode}_dataloader has '
                    f'{len(classes)} classes: set it to {len(classes)}'
                )
