# Copyright (c) mmcim contributors. All rights reserved.
"""Resuming with other settings than those of the checkpoint."""

import warnings
from typing import Any

from mmengine.runner import Runner

from ..models.layers.momentum import momentum_encoder_of
from .run_record import unwrapped


def parameter_group_settings(runner: Runner) -> list[dict[str, Any]]:
    """Copy the settings of the optimizer's parameter groups, as learning rates.

    Among mmengine's groups is one without parameters, for the logged ``base_lr``.
    """
    groups = runner.optim_wrapper.param_groups
    return [{k: v for k, v in group.items() if k != 'params'} for group in groups]


def apply_override(runner: Runner, settings: list[dict[str, Any]]) -> None:
    """Continue a resumed run with this run's settings instead of the checkpoint's.

    Optimizer states and weights stay. Schedules are as if they had been followed from
    the start, and the iteration is the one at the same fraction of the same epoch.

    Args:
        runner: With the checkpoint loaded, but for schedulers.
        settings: See :func:`parameter_group_settings`, before it was loaded.
    """
    seed = runner.cfg.get('randomness', {}).get('seed')
    if seed is not None:
        runner._randomness_cfg['seed'] = seed
        runner.set_randomness(**runner._randomness_cfg)
    loop = runner.train_loop
    length = runner.record['train_dataloader']['iterations_per_epoch']
    if length and runner.resumed_record:
        then = runner.resumed_record['train_dataloader']['iterations_per_epoch']
        done = loop._iter - loop._epoch * then
        loop._iter = loop._epoch * length + done * length // then
    groups = runner.optim_wrapper.param_groups
    for group, values in zip(groups, settings, strict=True):
        group.update(values)
    _follow_schedules(runner, length)
    if encoder := momentum_encoder_of(unwrapped(runner.model)):
        encoder.steps.fill_(loop._iter // runner.optim_wrapper._accumulative_counts)


def _follow_schedules(runner: Runner, epoch_length: int | None) -> None:
    """Step the schedulers as training does, iterations first."""
    schedulers = sorted(runner.param_schedulers or (), key=lambda s: s.by_epoch)
    with warnings.catch_warnings():
        # No step of the optimizer precedes these.
        warnings.filterwarnings('ignore', message='Detected call of `scheduler.step')
        for iteration in range(1, runner.iter + 1):
            ends_epoch = epoch_length and iteration % epoch_length == 0
            for scheduler in schedulers:
                if ends_epoch or not scheduler.by_epoch:
                    scheduler.step()
