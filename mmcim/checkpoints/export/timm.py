# Copyright (c) mmcim contributors. All rights reserved.
"""timm's ``vit_*``, ``beit_*`` and ``resnet*``."""

from pathlib import Path
from typing import Any

import timm
import torch
from mmpretrain.models.backbones import ResNet
from torch import Tensor, nn

from ..file import BackboneFile
from ..names import from_mmpretrain
from ..record import save_safetensors
from .architecture import (
    Transformer,
    describe_transformer,
    is_transformer,
    without_key_bias,
)
from .files import Written

# Width, depth and heads of timm's names; other sizes are given as arguments.
_SIZES = dict(
    tiny=(192, 12, 3), small=(384, 12, 6), base=(768, 12, 12), large=(1024, 24, 16)
)


def write(
    file: BackboneFile, net: nn.Module, tensors: dict[str, Tensor], out: Path
) -> Written:
    """Write a ``.safetensors`` file for ``timm.create_model``.

    Args:
        file: Where the backbone is from.
        net: The network, with its weights.
        tensors: Its tensors.
        out: The file to write.
    """
    tensors, name, kwargs = convert(net, tensors)
    if file.normalization:
        mean, std = map(tuple, file.normalization)
        # timm's own preprocessing for this name is another.
        kwargs['pretrained_cfg_overlay'] = dict(mean=mean, std=std)
        if 'img_size' in kwargs:
            kwargs['pretrained_cfg_overlay']['input_size'] = (3, *net.img_size)
    arguments = ''.join(f',\n    {key}={value!r}' for key, value in kwargs.items())
    model = (
        f"timm.create_model(\n    {name!r},\n    checkpoint_path='{out}'{arguments},\n)"
    )
    save_safetensors(out, tensors, dict(create_model=model.replace(str(out), out.name)))
    pooled = getattr(net, 'out_type', None) == 'avg_featmap'
    forward = 'model' if pooled else 'model.forward_features'
    if is_transformer(net):
        net.out_type = 'avg_featmap' if pooled else 'raw'
    return Written(
        f'import timm\n\nmodel = {model}.eval()\nfeatures = {forward}(images)',
        lambda: load(str(out), name, kwargs, pooled),
    )


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
    """
    if type(net) is ResNet:
        return tensors, f'resnet{net.depth}', dict(num_classes=0)
    arch = describe_transformer(net)
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


def load(path: str, name: str, kwargs: dict[str, Any], pooled: bool) -> nn.Module:
    """Open what was written; gives pooled features, or all tokens."""
    model = timm.create_model(name, checkpoint_path=path, **kwargs).eval()
    if not pooled:
        model.forward = model.forward_features
    return model


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
