# Copyright (c) mmcim contributors. All rights reserved.
"""Averaged weights that follow the optimizer's steps."""

from typing import Any

from mmengine.runner import Runner
from mmpretrain.engine import hooks

from ...utils.scopes import REGISTRIES


class EMAHook(hooks.EMAHook):
    """mmpretrain's ``EMAHook``, which moves once per step of the optimizer.

    If iterations that only accumulate gradients counted, the averages would depend on how
    the effective batch is split. See :class:`mmpretrain.engine.hooks.EMAHook`.
    """

    def before_run(self, runner: Runner) -> None:
        """Build the averaged model; its steps are counted where no GPU is waited for."""
        super().before_run(runner)
        self.ema_model.steps = self.ema_model.steps.cpu()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Average after the last iteration of an effective batch."""
        if runner.optim_wrapper.should_update():
            super().after_train_iter(runner, *args, **kwargs)


# In configs of all libraries it takes the place of the one that counts iterations.
for library in REGISTRIES:
    library.HOOKS.register_module(module=EMAHook, force=True)
