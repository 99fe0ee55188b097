# Copyright (c) mmcim contributors. All rights reserved.
"""The momentum encoder: a copy of modules that follows them slowly."""

import math
from collections.abc import Sequence
from copy import deepcopy

import torch
from mmengine.model import BaseModel, BaseModule
from torch import nn


class MomentumEncoder(nn.Module):
    """Copies of a model's modules whose parameters are moving averages of theirs.

    After optimizer step k = 0, 1, ... of K, each parameter becomes
    ``m * own + (1 - m) * source``, where m rises from ``momentum`` to
    ``end_momentum`` along half a cosine:
    ``m = end - (end - start) * (1 + cos(pi * k / K)) / 2``.

    Only parameters are averaged. Buffers, such as the statistics of a batch norm, belong
    to the copy. Nothing has a gradient. :class:`MomentumUpdateHook` calls :meth:`update`;
    a model that holds a ``MomentumEncoder`` names it ``momentum_encoder``.

    Args:
        model: The model whose modules are copied, as they are now.
        names: Names of the modules in the model; the copies are
            children of the same names.
        momentum: m at the start, in [0, 1].
        end_momentum: m at the end, in [0, 1].
    """

    backbone: BaseModule
    neck: BaseModule

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        momentum: float = 0.996,
        end_momentum: float = 1.0,
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.end_momentum = end_momentum
        for name in names:
            self.add_module(name, deepcopy(getattr(model, name)))
        self.requires_grad_(False)

    @torch.no_grad()
    def copy_from(self, model: nn.Module) -> None:
        """Copy the model's modules, which have just been initialised."""
        for name, copy in self.named_children():
            copy.load_state_dict(getattr(model, name).state_dict())

    @torch.no_grad()
    def begin_from(self, model: BaseModel, missing: Sequence[str]) -> None:
        """Start a new run from weights that have been loaded into the model.

        Exported backbone weights are loaded into one of the two encoders; it is copied to
        the other.

        Args:
            model: The model of the constructor, whose child is this.
            missing: Names of the model's tensors that were not loaded.
        """
        if any(name.startswith('backbone.') for name in missing):
            model.backbone.load_state_dict(self.backbone.state_dict())
            self.copy_from(model)
        elif any(name.startswith('momentum_encoder.backbone.') for name in missing):
            self.copy_from(model)

    def coefficient(self, step: int, num_steps: int) -> float:
        """The momentum m of a step.

        Args:
            step: Optimizer steps before this one, k.
            num_steps: Optimizer steps of the whole training, K.

        Returns:
            In [``momentum``, ``end_momentum``].
        """
        rest = (1 + math.cos(math.pi * min(step / num_steps, 1.0))) / 2
        return self.end_momentum - (self.end_momentum - self.momentum) * rest

    @torch.no_grad()
    def update(self, model: nn.Module, step: int, num_steps: int) -> float:
        """Follow the model's modules after an optimizer step.

        Args:
            model: The model of the constructor.
            step: Optimizer steps before this one.
            num_steps: Optimizer steps of the whole training.

        Returns:
            The momentum m that this step had.
        """
        momentum = self.coefficient(step, num_steps)
        for name, copy in self.named_children():
            own = tuple(copy.parameters())
            source = tuple(getattr(model, name).parameters())
            torch._foreach_lerp_(own, source, 1 - momentum)
        return momentum


def momentum_encoder_of(model: nn.Module) -> MomentumEncoder | None:
    """The model's momentum encoder, unless it is mmpretrain's, which updates itself."""
    encoder = getattr(model, 'momentum_encoder', None)
    return encoder if isinstance(encoder, MomentumEncoder) else None
