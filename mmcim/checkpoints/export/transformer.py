# Copyright (c) mmcim contributors. All rights reserved.
"""What the exports ask a vision transformer of mmpretrain."""

from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn

from ..layout import is_derived


def is_beit(net: nn.Module) -> bool:
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


def has_layer_scale(net: nn.Module) -> bool:
    """Whether branches are scaled per channel."""
    return any('gamma' in name for name, _ in net.layers[0].named_parameters())


def tensors_of(net: nn.Module) -> dict[str, Tensor]:
    """The network's weights and statistics in float32."""
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
        if not is_derived(name)
    }
