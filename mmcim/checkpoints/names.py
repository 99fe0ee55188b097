# Copyright (c) mmcim contributors. All rights reserved.
"""Names of the same tensors in mmpretrain and in other libraries.

timm's names are those of microsoft's BEiT, of DeiT and of MAE as well. A plain ResNet is
named alike in mmpretrain, timm and torchvision.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# A ViT or BEiT, part by part: in mmpretrain and in timm. What is not here (cls_token,
# pos_embed, rel_pos_bias, attn.qkv, attn.q_bias, gamma_1, ...) is named alike.
_STEM = {
    'patch_embed.projection': 'patch_embed.proj',
    'pre_norm': 'norm_pre',
    'ln1': 'norm',
    'ln2': 'fc_norm',
}
_LAYER = {
    'ln1': 'norm1',
    'ln2': 'norm2',
    'ffn.layers.0.0': 'mlp.fc1',
    'ffn.layers.1': 'mlp.fc2',
    # LayerScale of a ViT; in a BEiT it is gamma_1 and gamma_2 on both sides.
    'attn.gamma1.weight': 'ls1.gamma',
    'ffn.gamma2.weight': 'ls2.gamma',
}
# What makes a ViT of either naming certain: a patch embedding and a first layer with
# attention over all tokens. Swin, HiViT and others lack one of them.
_TIMM = {'patch_embed.proj.weight', 'blocks.0.attn.qkv.weight'}
_MMPRETRAIN = {'patch_embed.projection.weight', 'layers.0.attn.qkv.weight'}
# Below it mmpretrain's TIMMBackbone holds a network of timm, with timm's names.
TIMM_MODEL = 'timm_model.'


def to_mmpretrain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT or BEiT of timm, DeiT, BEiT or MAE to mmpretrain's names.

    Networks are recognised by their names. All others keep them: mmpretrain's own,
    ResNets of timm and torchvision (named alike), heads, decoders.

    Args:
        tensors: The state dict of a backbone, without prefix.

    Returns:
        The same tensors in the same order.

    Raises:
        ValueError: If two tensors would have the same name.

    Examples:
        >>> names = dict.fromkeys(
        ...     ('patch_embed.proj.weight', 'blocks.0.attn.qkv.weight', 'norm.bias'))
        >>> list(to_mmpretrain(names))
        ['patch_embed.projection.weight', 'layers.0.attn.qkv.weight', 'ln1.bias']
    """
    if not tensors.keys() >= _TIMM:
        return dict(tensors)
    stem, layer = ({new: old for old, new in t.items()} for t in (_STEM, _LAYER))
    return _rename(tensors, ('blocks', 'layers'), stem, layer)


def from_mmpretrain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename mmpretrain's ViT or BEiT to timm's names; the inverse.

    Args:
        tensors: The state dict of a backbone, without prefix.

    Returns:
        The same tensors in the same order.

    Raises:
        ValueError: If two tensors would have the same name.
    """
    if not tensors.keys() >= _MMPRETRAIN:
        return dict(tensors)
    return _rename(tensors, ('layers', 'blocks'), _STEM, _LAYER)


def _rename(
    tensors: Mapping[str, Tensor],
    layers: tuple[str, str],
    stem: Mapping[str, str],
    layer: Mapping[str, str],
) -> dict[str, Tensor]:
    old_layers, new_layers = layers
    renamed = {}
    for name, value in tensors.items():
        match = re.fullmatch(rf'{old_layers}\.(\d+)\.(.+)', name)
        if match:
            name = f'{new_layers}.{match[1]}.{_replace_start(match[2], layer)}'
        else:
            name = _replace_start(name, stem)
        if name in renamed:
            raise ValueError(f'has two tensors that would be named {name!r}')
        renamed[name] = value
    return renamed


def _replace_start(name: str, table: Mapping[str, str]) -> str:
    """Replace the first parts of a dotted name by the table."""
    for old, new in table.items():
        if name == old or name.startswith(old + '.'):
            return new + name[len(old) :]
    return name
