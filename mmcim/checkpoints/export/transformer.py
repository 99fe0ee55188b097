# Copyright (c) mmcim contributors. All rights reserved.
"""What the exports ask a vision transformer of mmpretrain."""

from typing import Any

from mmengine.model import BaseModule
from mmpretrain.models.backbones import VisionTransformer


def is_beit(net: BaseModule) -> bool:
    """Tell a BEiT from a ViT.

    Raises:
        ValueError: If it is neither, or has a norm more than the other libraries' have.
    """
    # Only mmpretrain's BEiTViT and mmcim's encoder have this attribute.
    beit = hasattr(net, 'use_rel_pos_bias')
    if not beit and not isinstance(net, VisionTransformer):
        raise ValueError('only a ViT, a BEiT or, to timm, a ResNet can be')
    if net.final_norm and net.out_type == 'avg_featmap':
        raise ValueError(
            "it has two norms, final_norm=True and that of out_type='avg_featmap', where "
            'other libraries have one'
        )
    return beit


def arguments_of(net: BaseModule) -> dict[str, Any]:
    """Describe a ViT or BEiT, but for its pooling, by the arguments of timm's."""
    layer, patches = net.layers[0], net.patch_embed.projection
    scaled = any('gamma' in name for name, _ in layer.named_parameters())
    known = dict(
        img_size=tuple(net.img_size),
        patch_size=patches.kernel_size[0],
        in_chans=patches.in_channels,
        embed_dim=net.embed_dims,
        depth=net.num_layers,
        num_heads=layer.attn.num_heads,
        mlp_ratio=layer.ffn.layers[0][0].out_features / net.embed_dims,
    )
    if is_beit(net):
        return known | dict(
            qkv_bias=bool(layer.attn.bias),
            use_abs_pos_emb=net.pos_embed is not None,
            use_rel_pos_bias=net.use_rel_pos_bias,
            use_shared_rel_pos_bias=net.rel_pos_bias is not None,
            # The values are in the file. create_model ignores None.
            init_values=0.1 if scaled else 0.0,
        )
    scales = dict(init_values=1.0) if scaled else {}
    bias, token = layer.attn.qkv.bias is not None, net.cls_token is not None
    return known | dict(qkv_bias=bias, class_token=token) | scales
