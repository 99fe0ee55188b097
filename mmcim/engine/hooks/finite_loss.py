# Copyright (c) mmcim contributors. All rights reserved.
"""Stop a diverged run early."""

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from mmpretrain.registry import HOOKS

# Of the gradient scaler; healthy runs stay above 1.
_LEAST_SCALE = 1e-4


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop training when a loss is NaN or infinite.

    So it does when no gradient is finite any more: with float16 the gradient scaler skips
    such steps and halves its scale each time.

    Each process checks its losses every ``interval`` iterations.
    :class:`SafeCheckpointHook` looks at the weights before each checkpoint.

    Args:
        interval: In iterations; ideally that of the logger.
    """

    priority = 'ABOVE_NORMAL'  # before others make something of NaN

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_train_iter(
        self, runner: Runner, *args: Any, outputs: dict | None = None, **kwargs: Any
    ) -> None:
        """Check the losses at the interval, since a check waits for the device.

        Raises:
            FloatingPointError: If one is not finite, or no step is taken any more.
        """
        if not self.every_n_train_iters(runner, self.interval):
            return
        where = f'iteration {runner.iter + 1}, process {runner.rank}'
        losses = {
            name: float(torch.as_tensor(value).detach())
            for name, value in (outputs or {}).items()
            if 'loss' in name
        }
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
