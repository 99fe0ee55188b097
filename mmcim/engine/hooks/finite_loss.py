# Copyright (c) mmcim contributors. All rights reserved.
"""Stop a diverged run early."""

import math
from collections.abc import Iterable

import torch
from mmengine.runner import Runner, find_latest_checkpoint

# Of the gradient scaler; healthy runs stay above 1.
_LEAST_SCALE = 1e-4


def check_finite(runner: Runner, names: Iterable[str]) -> None:
    """Stop a training when a loss is NaN or infinite.

    So it does when no gradient is finite any more: with float16 the gradient scaler skips
    such steps and halves its scale each time.

    Each process checks its losses. :class:`SafeCheckpointHook` looks at the weights
    before each checkpoint.

    Args:
        runner: After an iteration whose values are in the message hub.
        names: Of the values; losses have 'loss' in it.

    Raises:
        FloatingPointError: If a loss is not finite, or no step is taken any more.
    """
    where = f'iteration {runner.iter + 1}, process {runner.rank}'
    scalars = {name: runner.message_hub.get_scalar(f'train/{name}') for name in names}
    losses = {name: s.current() for name, s in scalars.items() if 'loss' in name}
    if not all(map(math.isfinite, losses.values())):
        values = ', '.join(f'{name}={value:g}' for name, value in losses.items())
        raise diverged(runner, f'a loss is not finite at {where}: {values}')
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    if scaler and scaler.is_enabled() and scaler.get_scale() < _LEAST_SCALE:
        raise diverged(runner, f'no gradient is finite at {where}')


def diverged(runner: Runner, what: str) -> FloatingPointError:
    """Make the error of a run that has diverged, with what helps.

    Args:
        runner: The run.
        what: What is not finite, and where.
    """
    saved = find_latest_checkpoint(runner.work_dir)
    again = f'Resume by --resume {saved} --override' if saved else 'Start again'
    dtype = getattr(runner.optim_wrapper, 'cast_dtype', torch.float32)
    or_float32 = ', or in float32 (optim_wrapper.precision=float32)'
    or_float32 *= dtype is not torch.float32
    return FloatingPointError(
        f'{what}; learning rate {runner.optim_wrapper.get_lr()["lr"][0]:g}. {again} with '
        'a lower optim_wrapper.optimizer.lr, a longer warm-up, stronger clipping '
        f'(optim_wrapper.clip_grad.max_norm){or_float32}'
    )
