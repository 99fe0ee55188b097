# Copyright (c) mmcim contributors. All rights reserved.
"""Three optimizer steps of a method, in float64, with SGD."""

import uuid
from copy import deepcopy
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

import mmcim  # noqa: F401

from . import methods
from .deterministic import fill, in_float64
from .store import rounded

NUM_STEPS, LEARNING_RATE = 3, 0.05


def measure_all() -> dict[str, Any]:
    return {name: measure(name) for name in methods.CONFIGS}


def measure(name: str) -> dict[str, Any]:
    """Train one method for three steps.

    Returns:
        dict: ``gradients``, the norm of each parameter's first gradient, without frozen
        parameters; ``steps``, the losses and metrics of each step.
    """
    with in_float64():
        model = build(name)
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
        gradients, logs = {}, []
        for step in range(NUM_STEPS):
            log = losses(model, name, step)
            optimizer.zero_grad()
            sum(value for key, value in log.items() if 'loss' in key).backward()
            gradients = gradients or gradient_norms(model)
            optimizer.step()
            if hasattr(model, 'momentum_encoder'):
                model.momentum_encoder.update(model, step, NUM_STEPS)
            logs.append({key: rounded(value.item()) for key, value in log.items()})
    return dict(gradients=gradients, steps=logs)


def build(name: str) -> nn.Module:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(deepcopy(methods.CONFIGS[name]))
    fill(model)
    return model.double().train()


def losses(model: nn.Module, name: str, step: int) -> dict[str, Tensor]:
    """Losses and metrics of a fixed batch; randomness is seeded by the step."""
    # The run's progress, which schedules the temperature of the discrete VAE.
    hub = MessageHub.get_instance(f'golden-{uuid.uuid4()}')
    hub.update_info('iter', step)
    hub.update_info('max_iters', NUM_STEPS + 1)
    torch.manual_seed(step)
    if name.startswith('corrim'):
        return model.loss(methods.exemplar_inputs())
    batch = methods.two_crops() if name == 'mocov3' else methods.plain_batch()
    data = model.data_preprocessor(batch, training=True)
    return model(**data, mode='loss')


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Norms of all parameters that learn, 0 for those that the loss does not reach."""
    return {
        name: 0.0 if param.grad is None else rounded(param.grad.norm().item())
        for name, param in model.named_parameters()
        if param.requires_grad
    }
