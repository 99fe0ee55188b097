# Copyright (c) mmcim contributors. All rights reserved.
"""Where a run resumes, whether a checkpoint fits it, and resuming with other settings."""

import os
import warnings
from typing import Any

from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor, nn

from ..models.layers.momentum import momentum_encoder_of
from ..utils.errors import ConfigError
from .run_record import check_resumed, compare, report, unwrapped

_NEEDED = ('state_dict', 'optimizer', 'message_hub', 'meta')


def latest_checkpoint(work_dir: str) -> str | None:
    """Find the checkpoint that was written last into a folder, which may have been moved.

    Raises:
        ConfigError: If ``last_checkpoint`` names a file that does not exist.
    """
    latest = find_latest_checkpoint(work_dir)
    if latest is None:
        return None
    for path in (os.path.join(work_dir, os.path.basename(latest)), latest):
        if os.path.isfile(path):
            return path
    raise ConfigError(
        f'{work_dir}/last_checkpoint names {latest}, which does not exist; give a '
        'checkpoint by --resume CHECKPOINT'
    )


def check_resumable(runner: Runner, checkpoint: dict, filename: str) -> None:
    """Look whether a training can resume from a checkpoint.

    Args:
        runner: About to train, with its record.
        checkpoint: The content of the file.
        filename: The file.

    Raises:
        ConfigError: If there is no training in the file, or one of another model or with
            other settings.
    """
    missing = [key for key in _NEEDED if key not in checkpoint]
    if missing:
        raise ConfigError(
            f'cannot resume from {filename}: no {", ".join(missing)} (best_*.pth have '
            'weights alone). Resume from another checkpoint, or use load_from to start a '
            'new run from its weights'
        )
    check_same_model(unwrapped(runner.model), checkpoint['state_dict'], filename)
    if runner.resumed_record is None:
        runner.logger.warning(f'{filename} has no run record: settings are not compared.')
    else:
        override = runner.cfg.get('override', False)
        check_resumed(
            runner.resumed_record, runner.record, filename, override, runner.logger
        )
    counts = runner.optim_wrapper._accumulative_counts
    if lost := checkpoint['meta']['iter'] % counts:
        runner.logger.warning(
            f'The checkpoint is {lost} iteration(s) after an optimizer step: what they '
            'accumulated is lost, and the first step has only the gradients of the other '
            f'{counts - lost}.'
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
    if differences := compare(stored, own):
        raise ConfigError(
            f'checkpoint {filename} is not of the {type(model).__name__} of this config: '
            f'{len(differences)} tensors differ: '
            f'{report(differences, "the checkpoint", "the model")}. Use the config that '
            'it was trained with, or start a new run from its weights by load_from with '
            'another --work-dir'
        )


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
