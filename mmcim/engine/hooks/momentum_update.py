# Copyright (c) mmcim contributors. All rights reserved.
"""One step of the momentum encoder per step of the optimizer."""

import math
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner


class MomentumUpdateHook(Hook):
    """Let ``model.momentum_encoder`` follow the model after each optimizer step.

    Iterations that only accumulate gradients do not count, so that its momentum does
    not depend on how the effective batch is split. The momentum is logged
    as ``momentum``. Steps that a gradient scaler skips count, as they do for schedules.
    See :class:`mmcim.models.layers.momentum.MomentumEncoder`.
    :class:`StrictRunner` adds the hook to a run whose model has a momentum encoder.
    """

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Update after the last iteration of an effective batch."""
        optim_wrapper = runner.optim_wrapper
        if not optim_wrapper.should_update():
            return
        # The iterations left over at the end make a step as well.
        counts = optim_wrapper._accumulative_counts
        step, num_steps = runner.iter // counts, math.ceil(runner.max_iters / counts)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        momentum = model.momentum_encoder.update(model, step, num_steps)
        runner.message_hub.update_scalar('train/momentum', momentum)
