# Copyright (c) mmcim contributors. All rights reserved.
"""Names of the same tensors in mmpretrain and in other libraries.

timm's names are those of microsoft's BEiT, of DeiT and of MAE as well. A ResNet has
the same names in mmpretrain, timm and torchvision.
"""

import re
from collections.abc import Mapping

from torch import Tensor

# The parts of a ViT or BEiT in mmpretrain and in timm, the first that a name begins with;
# # is a number. What is not here (cls_token, pos_embed, attn.qkv, gamma_1, ...) has
# the same name in both.
_TIMM_NAMES = {
    'patch_embed.projection': 'patch_embed.proj',
    'pre_norm': 'norm_pre',
    'ln1': 'norm',
    'ln2': 'fc_norm',
    'layers.#.ln1': 'blocks.#.norm1',
    'layers.#.ln2': 'blocks.#.norm2',
    'layers.#.ffn.layers.0.0': 'blocks.#.mlp.fc1',
    'layers.#.ffn.layers.1': 'blocks.#.mlp.fc2',
    # LayerScale of a ViT; in a BEiT it is gamma_1 and gamma_2 on both sides.
    'layers.#.attn.gamma1.weight': 'blocks.#.ls1.gamma',
    'layers.#.ffn.gamma2.weight': 'blocks.#.ls2.gamma',
    'layers.#': 'blocks.#',
}
# What makes a ViT of either naming certain: a patch embedding and a first layer with
# attention over all tokens. Swin, HiViT and others lack one of them.
_TIMM = {'patch_embed.proj.weight', 'blocks.0.attn.qkv.weight'}
_MMPRETRAIN = {'patch_embed.projection.weight', 'layers.0.attn.qkv.weight'}


def to_mmpretrain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ViT or BEiT of timm, DeiT, BEiT or MAE to mmpretrain's names.

    Networks are recognised by their names. All others keep them: mmpretrain's own,
    ResNets of timm and torchvision (same names), heads, decoders.

    Args:
        tensors: The state dict of a backbone, without prefix.

    Returns:
        The same tensors in the same order.

    Raises:
        ValueError: If two tensors would have the same name.

    Example:
        >>> names = dict.fromkeys(
        ...     ('patch_embed.proj.weight', 'blocks.0.attn.qkv.weight', 'norm.bias'))
        >>> list(to_mmpretrain(names))
        ['patch_embed.projection.weight', 'layers.0.attn.qkv.weight', 'ln1.bias']
    """
    if not tensors.keys() >= _TIMM:
        return dict(tensors)
    return rename(tensors, {theirs: ours for ours, theirs in _TIMM_NAMES.items()})


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
    return rename(tensors, _TIMM_NAMES)


def rename(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Replace the first parts of dotted names.

    Args:
        tensors: Name -> tensor.
        table: What a name begins with -> what it begins with instead; the first that
            fits counts. ``#`` stands for the number of a layer.

    Returns:
        The same tensors in the same order.

    Raises:
        ValueError: If two tensors would have the same name.
    """
    renamed = {}
    for name, value in tensors.items():
        found = re.search(r'(?<=layers\.|blocks\.)\d+', name)
        number = found[0] if found else ''
        general = name.replace(f'.{number}.', '.#.', 1)
        for old, new in table.items():
            if f'{general}.'.startswith(f'{old}.'):
                name = (new + general[len(old) :]).replace('#', number, 1)
                break
        if name in renamed:
            raise ValueError(f'has two tensors that would be named {name!r}')
        renamed[name] = value
    return renamed
