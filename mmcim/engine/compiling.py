# Copyright (c) mmcim contributors. All rights reserved.
"""The networks of a model, compiled one by one."""

from collections.abc import Iterator

from mmcv.cnn.bricks import DropPath
from torch import nn

from ..models.tokenizers import BaseTokenizer

_NAMES = ('backbone', 'neck', 'head')


def compile_networks(model: nn.Module, compile: bool | dict | None) -> None:
    """Compile the networks of a model in place, as ``compile`` in a config says.

    They are the backbones, necks and heads of the model and its sub-models, and the
    parts of a tokenizer. Masks, samples and losses are computed between them as before,
    and the names of tensors stay. An image size or a batch size that comes later is
    compiled for itself.

    Args:
        model: Not wrapped.
        compile: True, or arguments of :func:`torch.compile`. By default random numbers,
            as in dropout, are those of a network that is not compiled.

    Raises:
        ValueError: If it is something else.
    """
    if not compile:
        return
    if not isinstance(compile, bool | dict):
        raise ValueError(f'{compile=} is neither True nor a dict, such as compile.mode=')
    arguments = dict(compile) if isinstance(compile, dict) else {}
    if not arguments.keys() & {'backend', 'mode', 'options'}:
        arguments['options'] = dict(fallback_random=True)
    for module in model.modules():
        if isinstance(module, DropPath):
            # mmpretrain's are NumPy scalars, which break the graph.
            module.drop_prob = float(module.drop_prob)
    for network in _networks(model):
        network.compile(**{'dynamic': False, **arguments})


def _networks(model: nn.Module) -> Iterator[nn.Module]:
    """Find the outermost networks."""
    for name, child in model.named_children():
        if name in _NAMES or isinstance(model, BaseTokenizer):
            yield child
        else:
            yield from _networks(child)
