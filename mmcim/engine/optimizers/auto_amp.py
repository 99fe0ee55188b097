# Copyright (c) mmcim contributors. All rights reserved.
"""One optimizer wrapper for GPUs and CPUs."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from mmengine.optim import OptimWrapper
from mmpretrain.registry import OPTIM_WRAPPERS
from torch import nn


def bf16_on_gpu() -> bool:
    """Whether there is a GPU with native bfloat16."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(
        including_emulation=False
    )


@OPTIM_WRAPPERS.register_module()
class AutoAmpOptimWrapper(OptimWrapper):
    """Mixed precision where the hardware has it, and clipping per sub-model.

    The forward pass runs in bfloat16 autocast on a GPU that supports it and in float32
    everywhere else, so that one config serves all machines. bfloat16 has the range of
    float32 and needs no loss scaling.

    ``clip_grad=dict(max_norm=3.0)`` clips the gradient norm of each sub-model separately.
    Sub-models are identified by the entry ``network`` of the parameter groups, which
    :class:`NetworkwiseOptimWrapperConstructor` sets; groups without it form one
    sub-model. With a global norm, the weight of one sub-model's loss would change the
    step of the other.

    The norms before clipping are logged as ``grad_norm_<network>``, and that of all
    gradients together as ``grad_norm``, by :class:`DeferredInfoHook`.

    Args:
        enabled: False keeps float32 everywhere.
        **kwargs: ``optimizer``, ``accumulative_counts`` and ``clip_grad``, see
            :class:`mmengine.optim.OptimWrapper`.

    Attributes:
        grad_norms: Of the last step, name -> scalar on the device.
    """

    def __init__(self, *, enabled: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.grad_norms: dict[str, torch.Tensor] = {}
        self.bf16 = enabled and bf16_on_gpu()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Add autocast to mmengine's context for accumulated gradients.

        Args:
            model: The model, possibly wrapped for distributed training.
        """
        # On a machine with no GPU even a disabled CUDA autocast would warn.
        autocast = torch.autocast('cuda', torch.bfloat16) if self.bf16 else nullcontext()
        with super().optim_context(model), autocast:
            yield

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
