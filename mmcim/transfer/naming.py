# Copyright (c) mmcim contributors. All rights reserved.
"""Names of the same tensors in mmpretrain and in other libraries.

timm's names are those of microsoft's BEiT, of DeiT and of MAE as well. A plain ResNet is
named alike in mmpretrain, timm and torchvision.
"""

import re

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
# What makes a ViT of either naming certain: below one prefix are a patch embedding and a
# first layer with attention over all tokens. Swin, HiViT and others lack one of them.
_TIMM = ('patch_embed.proj.weight', 'blocks.0.attn.qkv.weight')
_MMPRETRAIN = ('patch_embed.projection.weight', 'layers.0.attn.qkv.weight')
# Below it mmpretrain's TIMMBackbone holds a network of timm, with timm's names.
_TIMM_BACKBONE = 'timm_model.'


def to_mmpretrain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT or BEiT of timm, DeiT, BEiT or MAE to mmpretrain's names.

    Networks are recognised by their names, below any prefix and also several in one
    checkpoint. All others keep their names: mmpretrain's own, ResNets of timm and
    torchvision (named alike), heads, decoders, and what ``TIMMBackbone`` wraps.

    Args:
        tensors (dict[str, Tensor]): A state dict.

    Returns:
        dict[str, Tensor]: The same tensors in the same order.

    Raises:
        ValueError: If two tensors come to bear one name.

    Examples:
        >>> names = dict.fromkeys(
        ...     ('patch_embed.proj.weight', 'blocks.0.attn.qkv.weight', 'norm.bias'))
        >>> list(to_mmpretrain(names))
        ['patch_embed.projection.weight', 'layers.0.attn.qkv.weight', 'ln1.bias']
    """
    prefixes = [
        prefix
        for prefix in _prefixes(tensors, _TIMM)
        if not prefix.endswith(_TIMM_BACKBONE)
    ]
    stem, layer = ({new: old for old, new in t.items()} for t in (_STEM, _LAYER))
    return _rename(tensors, prefixes, ('blocks', 'layers'), stem, layer)


def from_mmpretrain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename mmpretrain's ViT or BEiT to timm's names; the inverse.

    Args:
        tensors (dict[str, Tensor]): A state dict with mmpretrain's names.

    Returns:
        dict[str, Tensor]: The same tensors in the same order.

    Raises:
        ValueError: If two tensors come to bear one name.
    """
    prefixes = _prefixes(tensors, _MMPRETRAIN)
    return _rename(tensors, prefixes, ('layers', 'blocks'), _STEM, _LAYER)


def _prefixes(tensors: dict[str, Tensor], marks: tuple[str, str]) -> list[str]:
    """Prefixes below which a ViT lies; the longest first."""
    first, second = marks
    found = (key.removesuffix(first) for key in tensors if key.endswith(first))
    prefixes = [p for p in found if not p or p.endswith('.')]
    return sorted((p for p in prefixes if p + second in tensors), key=len, reverse=True)


def _rename(
    tensors: dict[str, Tensor],
    prefixes: list[str],
    layers: tuple[str, str],
    stem: dict[str, str],
    layer: dict[str, str],
) -> dict[str, Tensor]:
    old_layers, new_layers = layers
    in_layer = re.compile(rf'{old_layers}\.(\d+)\.(.+)')
    renamed = {}
    for key, value in tensors.items():
        prefix = next((p for p in prefixes if key.startswith(p)), None)
        new_key = key
        if prefix is not None:
            name = key[len(prefix) :]
            match = in_layer.fullmatch(name)
            if match:
                index, part = match.groups()
                name = f'{new_layers}.{index}.{_replace_start(part, layer)}'
            else:
                name = _replace_start(name, stem)
            new_key = prefix + name
        if new_key in renamed:
            raise ValueError(f'two tensors of one checkpoint are both {new_key!r}')
        renamed[new_key] = value
    return renamed


def _replace_start(name: str, table: dict[str, str]) -> str:
    """Replace the first parts of a dotted name as the table says."""
    for old, new in table.items():
        if name == old or name.startswith(old + '.'):
            return new + name[len(old) :]
    return name
