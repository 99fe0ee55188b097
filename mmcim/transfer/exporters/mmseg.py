# Copyright (c) mmcim contributors. All rights reserved.
"""mmsegmentation's own ViT, BEiT and ResNet, for use without mmpretrain and mmcim."""

import re
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ...utils.errors import ConfigError
from ..layout import is_derived
from .architecture import (
    Transformer,
    check_resnet,
    describe_transformer,
    is_transformer,
    without_key_bias,
)

_SHARED = 'rel_pos_bias.relative_position_bias_table'


def convert(
    net: nn.Module, tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Convert to mmsegmentation's own backbones, which give feature maps.

    Args:
        net (nn.Module): The network, of mmpretrain.
        tensors (dict[str, Tensor]): Its tensors.

    Returns:
        tuple: The tensors under mmsegmentation's names, and the config of the backbone.

    Raises:
        ConfigError: If mmsegmentation has no such network.
    """
    if not is_transformer(net):
        check_resnet(net)
        return tensors, dict(type='ResNet', depth=net.depth)
    arch = describe_transformer(net)
    _check(arch)
    # A norm of averages is not part of a feature map.
    tensors = {k: v for k, v in tensors.items() if not k.startswith('ln2.')}
    config = dict(
        type='BEiT' if arch.beit else 'VisionTransformer',
        img_size=arch.img_size,
        patch_size=arch.patch_size,
        in_channels=arch.in_channels,
        embed_dims=arch.embed_dims,
        num_layers=arch.num_layers,
        num_heads=arch.num_heads,
        mlp_ratio=arch.hidden_dims // arch.embed_dims,
        norm_cfg=dict(type='LN', eps=arch.eps),
        final_norm=arch.token_norm,
    )
    if arch.beit:
        return _beit(without_key_bias(tensors), arch), dict(config, qv_bias=arch.qkv_bias)
    tensors = {_rename(name): value for name, value in tensors.items()}
    return tensors, dict(config, qkv_bias=arch.qkv_bias, patch_bias=True)


def load(path: str, config: dict[str, Any]) -> nn.Module:
    """Open what was written.

    Raises:
        ImportError: If mmsegmentation is not installed.
    """
    import mmseg.models  # noqa: F401
    from mmseg.registry import MODELS

    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
    tensors = torch.load(path, weights_only=True)
    buffers = {k: v for k, v in model.state_dict().items() if is_derived(k)}
    model.load_state_dict(buffers | tensors)
    model.train(False)  # eval() of its backbones returns None
    return model


def _check(arch: Transformer) -> None:
    lacks = {
        'a class token is needed': not arch.class_token,
        'its VisionTransformer has no LayerScale': not arch.beit and arch.layer_scale,
        'its VisionTransformer has biases': not arch.beit and not arch.qkv_bias,
        'its BEiT has LayerScale': arch.beit and not arch.layer_scale,
        'its BEiT has relative positions': arch.beit and not arch.relative_positions,
        'its BEiT loads weights for square pictures only': (
            arch.beit and arch.img_size[0] != arch.img_size[1]
        ),
        'its BEiT has no absolute positions': arch.beit and arch.absolute_positions,
        'the feed-forward width has to be a multiple of the width': bool(
            arch.hidden_dims % arch.embed_dims
        ),
    }
    found = [reason for reason, there in lacks.items() if there]
    if found:
        raise ConfigError(
            f'mmsegmentation cannot express this network: {"; ".join(found)}. Use '
            'mmpretrain.* in its config, as configs/segmentation/ does, with --to '
            'mmpretrain'
        )


def _rename(name: str) -> str:
    """Its attention is torch.nn.MultiheadAttention."""
    name = re.sub(r'\.attn\.qkv\.', '.attn.attn.in_proj_', name)
    return re.sub(r'\.attn\.proj\.', '.attn.attn.out_proj.', name)


def _beit(tensors: dict[str, Tensor], arch: Transformer) -> dict[str, Tensor]:
    """Give each layer its own table of relative positions."""
    if arch.relative_positions == 'shared':
        table = tensors.pop(_SHARED)
        for layer in range(arch.num_layers):
            name = f'layers.{layer}.attn.relative_position_bias_table'
            tensors[name] = table.clone()
    return tensors
