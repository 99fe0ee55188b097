# Copyright (c) mmcim contributors. All rights reserved.
"""Stop a diverged run early."""

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stop training when a loss is NaN or infinite.

    Each process checks its losses every ``interval`` iterations, and rank 0 also before
    each checkpoint, so that no good checkpoint is replaced by a diverged one.

    Args:
        interval: In iterations; ideally that of the logger.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval
        self._losses: dict[str, torch.Tensor] = {}
        self._iter = 0

    def after_train_iter(
        self, runner: Runner, *args: Any, outputs: dict | None = None, **kwargs: Any
    ) -> None:
        """Store the losses and check them at the interval."""
        self._losses = {
            name: torch.as_tensor(value).detach()
            for name, value in (outputs or {}).items()
            if 'loss' in name
        }
        self._iter = runner.iter + 1
        if self.every_n_train_iters(runner, self.interval):
            self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the losses of the last iteration."""
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        losses = {name: float(value) for name, value in self._losses.items()}
        if all(map(math.isfinite, losses.values())):
            return
        values = ', '.join(f'{name}={value:g}' for name, value in losses.items())
        where = f'iteration {self._iter}, process {runner.rank}'
        raise diverged(runner, f'a loss is not finite at {where}: {values}')


def diverged(runner: Runner, what: str) -> FloatingPointError:
    """Make the error of a run that has diverged, with what helps.

    Args:
        runner: The run.
        what: What is not finite, and where.
    """
    saved = find_latest_checkpoint(runner.work_dir)
    again = f'Resume by --resume {saved} --override' if saved else 'Start again'
    return FloatingPointError(
        f'{what}; learning rate {runner.optim_wrapper.get_lr()["lr"][0]:g}. {again} with '
        'a lower optim_wrapper.optimizer.lr, a longer warm-up, stronger clipping '
        '(optim_wrapper.clip_grad.max_norm), or in float32 (optim_wrapper.enabled=False)'
    )
