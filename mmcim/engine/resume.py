# Copyright (c) mmcim contributors. All rights reserved.
"""Resuming with other settings than those of the checkpoint."""

import warnings

from mmengine.runner import Runner

from ..models.layers.momentum import momentum_encoder_of
from .run_record import unwrapped


def override_settings(runner: Runner, checkpoint: dict) -> None:
    """Put a run's settings into the checkpoint that it is about to resume from.

    Optimizer states and weights stay. Schedules are as if they had been followed from
    the start, and the iteration is the one at the same fraction of the same epoch.

    Args:
        runner: With its record and that of the checkpoint.
        checkpoint: Changed in place.
    """
    meta = checkpoint['meta']
    if runner.cfg.get('randomness', {}).get('seed') is not None:
        meta['seed'] = None
    length = runner.record['train_dataloader']['iterations_per_epoch']
    if length:
        then = runner.loaded_record['train_dataloader']['iterations_per_epoch']
        done = meta['iter'] - meta['epoch'] * then
        meta['iter'] = meta['epoch'] * length + done * length // then
    _follow_schedules(runner, meta['iter'], length)
    state = checkpoint['optimizer']['state']
    checkpoint['optimizer'] = {**runner.optim_wrapper.state_dict(), 'state': state}
    checkpoint.pop('param_schedulers', None)
    if momentum_encoder_of(unwrapped(runner.model)):
        steps = meta['iter'] // runner.optim_wrapper._accumulative_counts
        checkpoint['state_dict']['momentum_encoder.steps'].fill_(steps)


def _follow_schedules(runner: Runner, num_iters: int, epoch_length: int | None) -> None:
    """Step the schedulers as training does, iterations first."""
    schedulers = sorted(runner.param_schedulers or (), key=lambda s: s.by_epoch)
    with warnings.catch_warnings():
        # No step of the optimizer precedes these.
        warnings.filterwarnings('ignore', message='Detected call of `scheduler.step')
        for iteration in range(1, num_iters + 1):
            ends_epoch = epoch_length and iteration % epoch_length == 0
            for scheduler in schedulers:
                if ends_epoch or not scheduler.by_epoch:
                    scheduler.step()
