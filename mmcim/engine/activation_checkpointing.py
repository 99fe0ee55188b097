# Copyright (c) mmcim contributors. All rights reserved.
"""Activation checkpointing: recompute layers in the backward pass, for less memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..utils.building import nearest


def checkpoint_activations(model: nn.Module, names: str | Sequence[str]) -> None:
    """Let the repeated layers of sub-models recompute what they would store.

    A layer then keeps its input alone from the forward to the backward pass, and runs
    its forward pass again there. Losses, gradients, random draws and statistics of batch
    norms are those without; names of tensors and modules stay. Nothing changes in
    evaluation and without gradients, as in momentum encoders.

    Args:
        model: Changed in place.
        names: Dotted names of sub-models, such as 'enhancer.backbone' or
            'backbone.layer1'. Their layers are the elements of innermost lists of modules
            of one class: the blocks of a transformer or of a ResNet's stages.

    Raises:
        ValueError: If there is no such sub-model, it has no such list, or names are none.
    """
    if not isinstance(names, str | Sequence):
        raise ValueError(f"{names} is no list of sub-models, such as ['backbone']")
    modules = dict(model.named_modules())
    layers: dict[nn.Module, None] = {}  # once, if names overlap
    for name in [names] if isinstance(names, str) else names:
        if name not in modules:
            raise ValueError(f'the model has no {name!r}.{nearest(name, modules)}')
        if not (found := [*_repeated_layers(modules[name])]):
            raise ValueError(f'{name!r} has no repeated layers to recompute')
        layers |= dict.fromkeys(found)
    for layer in layers:
        norms = [m for m in layer.modules() if getattr(m, 'track_running_stats', False)]
        run = _recomputed_with_norms if norms else _recomputed
        # Not a wrapping module, which would rename all tensors to the optimizer.
        layer.forward = partial(run, layer, layer.forward, norms)


def _repeated_layers(module: nn.Module) -> Iterator[nn.Module]:
    children = [*module.children()]
    is_list = isinstance(module, nn.ModuleList | nn.Sequential)
    alike = len({type(child) for child in children}) == 1
    for child in children:
        inner = [*_repeated_layers(child)]
        # A single linear layer or activation is nothing to recompute.
        is_layer = is_list and alike and any(child.children())
        yield from inner or ([child] if is_layer else [])


def _recomputed(
    layer: nn.Module, forward: Callable, norms: list[nn.Module], *args: Any, **kwargs: Any
) -> Any:
    if not (layer.training and torch.is_grad_enabled()):
        return forward(*args, **kwargs)
    run: Any = partial(checkpoint, forward, use_reentrant=False)
    if norms:
        run.keywords['context_fn'] = lambda: (nullcontext(), _statistics_kept(norms))
    return run(*args, **kwargs)


# Its contexts are none that torch.compile takes.
_recomputed_with_norms = torch.compiler.disable(_recomputed)


@contextmanager
def _statistics_kept(norms: list[nn.Module]) -> Iterator[None]:
    """Batch norms end with the statistics that they begin with."""
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:  # the repetition is left by an exception once it has all that is needed
        for buffer, before in zip(buffers, kept):
            buffer.copy_(before)
