# Copyright (c) mmcim contributors. All rights reserved.
"""Losses are read from the device once per logging interval."""

import math
from typing import Any

import torch
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as _RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from .finite_loss import check_finite


@HOOKS.register_module()
class DeferredInfoHook(_RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook``, which need not wait for a GPU in each iteration.

    What a model logs, and the gradient norms of :class:`AutoAmpOptimWrapper`, stay on the
    device. All of it is read at once before a line is logged or a checkpoint is saved, so
    that the history is the same, iteration by iteration. Where a line is due, a loss that
    is NaN or infinite stops the run, see :func:`check_finite`.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Tensor]] = []
        self._has_read = False

    def after_train_iter(
        self, runner: Runner, *args: Any, outputs: dict | None = None, **kwargs: Any
    ) -> None:
        """Keep the values of this iteration; read all if a line is due, or none was.

        Raises:
            FloatingPointError: See :func:`check_finite`.
        """
        norms = getattr(runner.optim_wrapper, 'grad_norms', {})
        for name, value in {**(outputs or {}), **norms}.items():
            self._waiting.append((f'train/{name}', torch.as_tensor(value).detach()))
        is_end = not self._has_read or self.is_last_train_iter(runner)
        if is_end or self.every_n_train_iters(runner, log_interval(runner)):
            self.before_checkpoint(runner)
            check_finite(runner, outputs or ())

    def before_checkpoint(self, runner: Runner) -> None:
        """Read what waits, also for the history that a checkpoint has."""
        if self._waiting:
            names, values = zip(*self._waiting)
            # One transfer, as each waits for the device.
            numbers = torch.stack([value.float() for value in values]).tolist()
            dtype = getattr(runner.optim_wrapper, 'cast_dtype', torch.float32)
            for name, number in zip(names, numbers):
                # A step that the gradient scaler of float16 has skipped has no norm.
                skipped = dtype is torch.float16 and 'grad_norm' in name
                if math.isfinite(number) or not skipped:
                    runner.message_hub.update_scalar(name, number)
            self._waiting.clear()
            self._has_read = True


def log_interval(runner: Runner) -> int:
    """How often :class:`mmengine.hooks.LoggerHook` logs, in iterations."""
    loggers = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
    return next((hook.interval for hook in loggers), 50)
