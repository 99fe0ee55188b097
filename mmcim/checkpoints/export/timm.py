# Copyright (c) mmcim contributors. All rights reserved.
"""timm's ``vit_*``, ``beit_*`` and ``resnet*``."""

from pathlib import Path
from typing import Any

import timm
import torch
from mmpretrain.models.backbones import ResNet
from torch import nn

from ..names import from_mmpretrain
from ..record import save_safetensors
from .transformer import has_layer_scale, is_beit, tensors_of


def write(
    net: nn.Module, normalization: tuple[list, list] | None, out: Path
) -> tuple[str, nn.Module]:
    """Write a ``.safetensors`` file for ``timm.create_model``.

    Args:
        net: The network, with its weights. What it puts out becomes what the other
            network does: pooled features, or all tokens.
        normalization: Mean and std of its images, on the scale 0..255, if known.
        out: The file to write.

    Returns:
        Python code that opens it, and the network that this opens.

    Raises:
        ValueError: If timm has no such network.
    """
    tensors, kwargs = from_mmpretrain(tensors_of(net)), dict(num_classes=0)
    pooled = getattr(net, 'out_type', None) == 'avg_featmap'
    if type(net) is ResNet:
        name = f'resnet{net.depth}'
    else:
        beit = is_beit(net)
        name = f'{"beit" if beit else "vit"}_base_patch16_224'
        kwargs |= _common_arguments(net)
        kwargs |= _beit_arguments(net) if beit else _vit_arguments(net)
        if beit and not (net.final_norm or pooled):
            # timm's always has one; it is that of a head, and starts like this.
            tensors['fc_norm.weight'] = torch.ones(net.embed_dims)
            tensors['fc_norm.bias'] = torch.zeros(net.embed_dims)
        net.out_type = 'avg_featmap' if pooled else 'raw'
    if normalization:
        # timm's own preprocessing for this name is another.
        mean, std = (tuple(round(v / 255, 8) for v in part) for part in normalization)
        kwargs['pretrained_cfg_overlay'] = dict(mean=mean, std=std)
        if 'img_size' in kwargs:
            kwargs['pretrained_cfg_overlay']['input_size'] = (3, *net.img_size)
    arguments = ''.join(f',\n    {key}={value!r}' for key, value in kwargs.items())
    call = (
        f"timm.create_model(\n    {name!r},\n    checkpoint_path='{out}'{arguments},\n)"
    )
    save_safetensors(out, tensors, dict(create_model=call.replace(str(out), out.name)))
    model = timm.create_model(name, checkpoint_path=str(out), **kwargs).eval()
    forward = 'model' if pooled else 'model.forward_features'
    if not pooled:
        model.forward = model.forward_features
    usage = f'import timm\n\nmodel = {call}.eval()\nfeatures = {forward}(images)'
    return usage, model


def _common_arguments(net: nn.Module) -> dict[str, Any]:
    layer, patches = net.layers[0], net.patch_embed.projection
    hidden_dims = layer.ffn.layers[0][0].out_features
    return dict(
        img_size=tuple(net.img_size),
        patch_size=patches.kernel_size[0],
        in_chans=patches.in_channels,
        embed_dim=net.embed_dims,
        depth=net.num_layers,
        num_heads=layer.attn.num_heads,
        mlp_ratio=hidden_dims / net.embed_dims,
    )


def _vit_arguments(net: nn.Module) -> dict[str, Any]:
    pooled_norm = net.out_type == 'avg_featmap'
    return dict(
        qkv_bias=net.layers[0].attn.qkv.bias is not None,
        class_token=net.cls_token is not None,
        # The values themselves are in the file.
        init_values=1.0 if has_layer_scale(net) else None,
        global_pool='token' if net.out_type == 'cls_token' else 'avg',
        fc_norm=pooled_norm,
        final_norm=net.final_norm or pooled_norm,
    )


def _beit_arguments(net: nn.Module) -> dict[str, Any]:
    # Averaging would take the norm of the tokens away.
    unpooled = 'token' if net.out_type == 'cls_token' else ''
    return dict(
        qkv_bias=bool(net.layers[0].attn.bias),
        use_abs_pos_emb=net.pos_embed is not None,
        use_rel_pos_bias=net.use_rel_pos_bias,
        use_shared_rel_pos_bias=net.rel_pos_bias is not None,
        init_values=0.1 if has_layer_scale(net) else 0,  # create_model ignores None
        global_pool=unpooled if net.final_norm else 'avg',
    )
