# Copyright (c) mmcim contributors. All rights reserved.
"""One optimizer wrapper for GPUs and CPUs."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmpretrain.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

from ...utils.precision import choose_precision


@OPTIM_WRAPPERS.register_module()
class AutoAmpOptimWrapper(AmpOptimWrapper):
    """Mixed precision where the hardware has it, and clipping per sub-model.

    The forward pass runs in the precision that
    :func:`mmcim.utils.precision.choose_precision` chooses for the device, so that one
    config serves all machines. bfloat16 has the range of float32 and needs no loss
    scaling. With float16 a gradient scaler multiplies the loss, divides the gradients
    before they are clipped, and skips steps whose gradients are not finite; its state is
    in the checkpoints.

    ``clip_grad=dict(max_norm=3.0)`` clips the gradient norm of each sub-model separately.
    Sub-models are identified by the entry ``network`` of the parameter groups, which
    :class:`NetworkwiseOptimWrapperConstructor` sets; groups without it form one
    sub-model. With a global norm, the weight of one sub-model's loss would change the
    step of the other.

    The norms before clipping are logged as ``grad_norm_<network>``, and that of all
    gradients together as ``grad_norm``, by :class:`DeferredInfoHook`.

    Args:
        precision: 'auto', 'bfloat16', 'float16' or 'float32'.
        clip_per_parameter: Whether to clip the 2-norm of each parameter's gradient on its
            own, as DINO's code does, with ``clip_grad=dict(max_norm=3.0)``.
        **kwargs: ``optimizer``, ``accumulative_counts`` and ``clip_grad``, see
            :class:`mmengine.optim.OptimWrapper`.

    Attributes:
        precision: What has been chosen, and why.
        grad_norms: Of the last step, name -> scalar on the device.
    """

    def __init__(
        self, *, precision: str = 'auto', clip_per_parameter: bool = False, **kwargs
    ) -> None:
        OptimWrapper.__init__(self, **kwargs)  # the parent's refuses CPUs
        if clip_per_parameter:
            self.clip_func = _clip_each
        self.grad_norms: dict[str, Tensor] = {}
        self.precision = choose_precision(precision)
        self.cast_dtype = self.precision.dtype
        scaled = self.cast_dtype is torch.float16
        self.loss_scaler = torch.amp.GradScaler(get_device(), enabled=scaled)
        self._scale_update_param = None

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Add the precision to mmengine's context for accumulated gradients.

        Args:
            model: The model, possibly wrapped for distributed training.
        """
        accumulation, chosen = OptimWrapper.optim_context(self, model), self.precision
        with accumulation, chosen.autocast(), chosen.attention():
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Compute the gradients of the scaled loss.

        Args:
            loss: Scalar.
            **kwargs: See :meth:`torch.Tensor.backward`.
        """
        with self.precision.attention():  # activation checkpointing computes it again
            super().backward(loss, **kwargs)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the optimizer, and the scaler if the checkpoint has the state of one.

        Args:
            state_dict: As a checkpoint has it; of float32 and bfloat16 the scaler's is
                empty.
        """
        if not state_dict.get('loss_scaler'):
            state_dict.pop('loss_scaler', None)
        super().load_state_dict(state_dict)

    def _clip_grad(self) -> None:
        if self.grad_name != 'grad_norm':
            # Clipping by value is elementwise: sub-models do not interact.
            super()._clip_grad()
            return
        networks = defaultdict(list)
        for group in self.optimizer.param_groups:
            for param in group['params']:
                if param.grad is not None:
                    networks[group.get('network')].append(param)
        if not networks:
            return
        clip = self.clip_grad_kwargs
        norms = torch.stack([self.clip_func(part, **clip) for part in networks.values()])
        total = torch.linalg.vector_norm(norms, float(clip.get('norm_type', 2)))
        self.grad_norms = dict(grad_norm=total)
        if len(networks) > 1:
            names = (f'grad_norm_{name or "rest"}' for name in networks)
            self.grad_norms |= zip(names, norms)


def _clip_each(params: list[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the norm of each parameter's gradient; the norm of all, before it."""
    grads = [param.grad for param in params if param.grad is not None]
    norms = torch.stack(torch._foreach_norm(grads))
    # As in torch.nn.utils.clip_grad_norm_.
    for grad, factor in zip(grads, (max_norm / (norms + 1e-6)).clamp(max=1)):
        grad.mul_(factor)
    return torch.linalg.vector_norm(norms)
