# Copyright (c) mmcim contributors. All rights reserved.
"""What the screen shows of a run: how it starts, how far it is, and what it has made."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from os.path import basename, join
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.models import BaseSelfSupervisor

from ..checkpoints import backbone_path
from ..checkpoints.layout import backbone_prefix
from ..utils.launch import initial_weights
from ..utils.terminal import ProgressLine, show
from .hooks.runtime_info import log_interval
from .run_record import unwrapped

_TITLES = dict(train='Training', val='Validating', test='Testing')


class TerminalHook(Hook):
    """Show progress and results on the screen; :class:`StrictRunner` adds it to a run.

    Where there is no terminal, a line is written as often as
    :class:`mmengine.hooks.LoggerHook` logs one.
    """

    priority = 'VERY_LOW'  # numbers are logged before

    def __init__(self) -> None:
        self._lines: dict[str, ProgressLine] = {}

    def _after_iter(
        self, runner: Runner, batch_idx: int, *args: Any, mode: str = 'train', **kwargs
    ) -> None:
        """Show how far it is; of a training also speed, time left and what is logged."""
        text: Callable[[], str] = str
        if mode == 'train':
            step, total = runner.iter + 1, runner.max_iters
            text = partial(training_numbers, runner)
        else:
            step, total = batch_idx + 1, len(getattr(runner, f'{mode}_dataloader'))
        if mode not in self._lines:
            title = f'{_TITLES[mode]} {type(unwrapped(runner.model)).__name__}'
            self._lines[mode] = ProgressLine(title, total, log_interval(runner))
        self._lines[mode].update(step, text)

    def after_train(self, runner: Runner) -> None:
        """Show what the training has made."""
        self._close('train')
        text = f'Done: {runner.iter} iterations, logged in {runner.log_dir}'
        if checkpoint := runner.message_hub.runtime_info.get('last_ckpt'):
            text += f'\nCheckpoint: {checkpoint}'
        runner.logger.info(text)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Show the metrics of a validation in one line."""
        self._close('val')
        text = ', '.join(f'{name} {_readable(v)}' for name, v in metrics.items())
        runner.logger.info(f'Validation at iteration {runner.iter}: {text}')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Show the metrics of a test, one in a line."""
        self._close('test')
        if is_main_process():
            show('\n'.join(f'{name}: {_readable(v)}' for name, v in metrics.items()))

    def _close(self, mode: str) -> None:
        if line := self._lines.pop(mode, None):
            line.close()


def start_summary(runner: Runner) -> str:
    """What a person checks first when a training starts, as a short block.

    Args:
        runner: About to train, with its record.
    """
    record, world_size = runner.record, runner.world_size
    data, optim = record['train_dataloader'], record['optim_wrapper']
    images, counts = data['images_per_iteration'], optim['accumulative_counts']
    size, model = data['dataset']['size'], unwrapped(runner.model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # A tokenizer's weights are buffers.
    tensors = [*model.parameters(), *model.buffers()]
    frozen = sum(t.numel() for t in tensors) - trained
    files = filter(None, [runner._load_from, *initial_weights(runner.cfg)])
    how = 'resumed from' if runner._resume else 'weights of'
    origin = next((f'{how} {file}' for file in files), 'from scratch')
    precision = record['environment']['precision']
    if chosen := getattr(runner.optim_wrapper, 'precision', None):
        precision = f'{precision} ({chosen.reason})'
    return (
        f'Training {type(model).__name__}:\n'
        f'  Images: {size} to train on\n'
        f'  Length: {runner.max_iters} iterations, {runner.max_iters // counts} steps of '
        f'the optimizer, {runner.max_iters * images / size:.1f} epochs\n'
        f'  Start: {origin}, iteration {runner.iter} of {runner.max_iters}\n'
        f'  Parameters: {trained:,} trained, {frozen:,} frozen\n'
        f'  Effective batch: {images * counts} = {world_size} process(es) x '
        f'{images // world_size} x {counts} accumulated\n'
        f'  Learning rate: {runner.optim_wrapper.optimizer.defaults["lr"]:g}\n'
        f'  Device: {next(model.parameters()).device}, {precision}\n'
        f'  Work directory: {runner.work_dir}'
    )


def training_numbers(runner: Runner) -> str:
    """Loss, time left, speed, and what else has been logged lately (means), in one line.

    The learning rate is the present one of the config, as scheduled, where parameter
    groups have others.
    """
    hub, window = runner.message_hub, runner.log_processor.window_size
    scalars = {
        name.removeprefix('train/'): buffer.mean(window)
        for name, buffer in hub.log_scalars.items()
        if name.startswith('train/')
    }
    if 'base_lr' in scalars:
        scalars['lr'] = hub.get_scalar('train/base_lr').current()
        del scalars['base_lr']
    seconds, _ = scalars.pop('time', None), scalars.pop('data_time', None)
    shown = {name: f'{name} {value:.4g}' for name, value in scalars.items()}
    first = [shown.pop('loss')] if 'loss' in shown else []
    if seconds:
        images = runner.record['train_dataloader']['images_per_iteration']
        left = timedelta(seconds=int(hub.get_info('eta', 0)))
        first += [f'ETA {left}', f'{images / seconds:.0f} images/s']
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        first.append(f'epoch {runner.epoch + 1}/{runner.max_epochs}')
    return '  '.join([*first, *shown.values()])


def what_is_next(runner: Runner) -> str:
    """Name commands that take what a training has made, if it has made anything."""
    checkpoint = runner.message_hub.runtime_info.get('last_ckpt')
    if not checkpoint:
        return ''
    model = unwrapped(runner.model)
    is_pretraining = isinstance(model, BaseSelfSupervisor) and backbone_prefix(model)
    # The complete one, with --pretrained and --cfg-options.
    config = join(
        runner.work_dir, basename(runner.cfg.filename or f'{runner.timestamp}.py')
    )
    command = 'show' if is_pretraining else 'test'
    text = f'Next:\n  mmcim {command} {config} {checkpoint}'
    text += f'\n  mmcim report {runner.work_dir}'
    if is_pretraining and (backbone := backbone_path(checkpoint)).is_file():
        text += f'\n  mmcim train CONFIG --pretrained {backbone}'
        text += '\n  mmcim configs finetune  # what CONFIG may be'
        text += f'\n  mmcim export {backbone} --to timm --out backbone.safetensors'
    return text


def _readable(value: Any) -> str:
    return f'{value:.4f}' if isinstance(value, float | np.floating) else str(value)
