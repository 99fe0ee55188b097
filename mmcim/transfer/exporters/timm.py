# Copyright (c) mmcim contributors. All rights reserved.
"""timm's ``vit_*``, ``beit_*`` and ``resnet*``."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from ...utils.errors import ConfigError
from ..naming import from_mmpretrain
from .architecture import (
    Transformer,
    check_resnet,
    describe_transformer,
    is_transformer,
    without_key_bias,
)

# Width, depth and heads of timm's names; other sizes are given as arguments.
_SIZES = dict(
    tiny=(192, 12, 3), small=(384, 12, 6), base=(768, 12, 12), large=(1024, 24, 16)
)
_EPS = 1e-6


def convert(
    net: nn.Module, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], str, dict[str, Any]]:
    """Convert to timm.

    Args:
        net (nn.Module): The network, of mmpretrain.
        tensors (dict[str, Tensor]): Its tensors.

    Returns:
        tuple: The tensors under timm's names, and name and further arguments of
        ``timm.create_model``.

    Raises:
        ConfigError: If timm has no such network.
    """
    if not is_transformer(net):
        check_resnet(net)
        return tensors, f'resnet{net.depth}', dict(num_classes=0)
    arch = describe_transformer(net)
    _check(arch)
    name, kwargs = _name(arch)
    if arch.beit:
        kwargs |= _beit_arguments(arch)
        tensors = without_key_bias(tensors)
    else:
        kwargs |= _vit_arguments(arch)
    tensors = from_mmpretrain(tensors)
    if arch.beit and not (arch.token_norm or arch.pooled_norm):
        # timm's always has one; it is that of a head, and starts like this.
        tensors['fc_norm.weight'] = torch.ones(arch.embed_dims)
        tensors['fc_norm.bias'] = torch.zeros(arch.embed_dims)
    return tensors, name, kwargs


def load(net: nn.Module, path: str, name: str, kwargs: dict[str, Any]) -> nn.Module:
    """Open what was written; gives what ``net`` with ``out_type='raw'`` does."""
    model = timm.create_model(name, checkpoint_path=path, **kwargs).eval()
    if is_transformer(net) and net.out_type == 'avg_featmap':
        return model
    model.forward = model.forward_features
    return model


def _check(arch: Transformer) -> None:
    if arch.token_norm and arch.pooled_norm:
        raise ConfigError(
            'this network has a norm before and one after averaging (final_norm=True '
            "with out_type='avg_featmap'), timm's have one or the other. --to mmpretrain "
            'keeps both; the pre-training that it began with has one'
        )
    if arch.eps != _EPS:
        raise ConfigError(
            f"eps of the layer norms is {arch.eps}, of timm's {_EPS}; --to hf keeps it"
        )
    if arch.beit and not arch.class_token:
        raise ConfigError("timm's BEiT has a class token, this one none")


def _name(arch: Transformer) -> tuple[str, dict[str, Any]]:
    """The nearest of timm's names, and what is different from it."""
    size = (arch.embed_dims, arch.num_layers, arch.num_heads)
    sizes = {k: v for k, v in _SIZES.items() if not arch.beit or k in ('base', 'large')}
    known = next((name for name, values in sizes.items() if values == size), None)
    kwargs = dict(num_classes=0)
    if known is None:
        kwargs |= dict(zip(('embed_dim', 'depth', 'num_heads'), size))
    if arch.hidden_dims != 4 * arch.embed_dims:
        kwargs['mlp_ratio'] = arch.hidden_dims / arch.embed_dims
    if arch.img_size != (224, 224):
        height, width = arch.img_size
        kwargs['img_size'] = height if height == width else (height, width)
    if arch.patch_size != 16:
        kwargs['patch_size'] = arch.patch_size
    if arch.in_channels != 3:
        kwargs['in_chans'] = arch.in_channels
    if not arch.qkv_bias:
        kwargs['qkv_bias'] = False
    return f'{"beit" if arch.beit else "vit"}_{known or "base"}_patch16_224', kwargs


def _vit_arguments(arch: Transformer) -> dict[str, Any]:
    kwargs = {}
    if arch.layer_scale:
        kwargs['init_values'] = 1.0  # the values themselves are in the file
    if not arch.class_token:
        kwargs['class_token'] = False
    if arch.pooling == 'avg':
        kwargs |= dict(global_pool='avg', fc_norm=arch.pooled_norm)
    if not (arch.token_norm or arch.pooled_norm):
        kwargs['final_norm'] = False
    return kwargs


def _beit_arguments(arch: Transformer) -> dict[str, Any]:
    kwargs = {}
    if arch.relative_positions != 'layers':
        kwargs['use_rel_pos_bias'] = False
    if arch.relative_positions == 'shared':
        kwargs['use_shared_rel_pos_bias'] = True
    if arch.absolute_positions:
        kwargs['use_abs_pos_emb'] = True
    if not arch.layer_scale:
        kwargs['init_values'] = 0  # create_model ignores None
    if arch.token_norm:
        # Averaging would take the norm of the tokens away.
        kwargs['global_pool'] = 'token' if arch.pooling == 'token' else ''
    return kwargs
