# Copyright (c) mmcim contributors. All rights reserved.
"""Public weights to start a pre-training from: where they are, and of which network."""

import os
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from torch import Tensor

from ..utils.errors import ConfigError
from .file import BackboneFile
from .names import to_mmpretrain

# Blocks in the third stage of a ResNet, and whether they are bottlenecks.
_RESNETS = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}
_HEAD_WIDTH = 64  # of all of the usual ViTs; a file does not say it


def find_weights(name: str, folder: Path) -> tuple[str, dict[str, list[float]]]:
    """Find a file of weights, or let timm download a model into one.

    Args:
        name: A file, or the name of a timm model.
        folder: Where a downloaded model is kept.

    Returns:
        The file, and mean and std of R, G and B that it was trained with, on the scale
        0..255; empty if unknown.

    Raises:
        ConfigError: If there is neither a file nor a model.
    """
    if os.path.isfile(name):
        found = BackboneFile.read(name).normalization
        return name, dict(zip(('mean', 'std'), found)) if found else {}
    path = folder / f'{name.replace("/", "_")}.safetensors'
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # an unknown name, no network, ...
        raise ConfigError(
            f'{name} is no file, and timm cannot load it: {error}. Copy the weights here '
            'and give the file'
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), path)
    scale = {k: [255 * v for v in model.pretrained_cfg[k]] for k in ('mean', 'std')}
    return str(path), scale


def architecture(path: str) -> dict[str, Any]:
    """Tell the network of a file by the shapes of its tensors.

    Args:
        path: See :meth:`BackboneFile.read`.

    Returns:
        Of a ResNet ``depth`` and ``width``, of its last stage; of a ViT or BEiT
        ``patch_size``, ``arch`` as mmpretrain's networks take it, and ``relative``, True
        if it has relative positions alone.

    Raises:
        ConfigError: If it is another network.
    """
    file = BackboneFile.read(path)
    tensors = to_mmpretrain(file.below(file.prefix or ''))
    count = _count(tensors, 'layer3.#.conv1.weight')
    depth = _RESNETS.get((count, 'layer3.0.conv3.weight' in tensors))
    if depth:
        return dict(depth=depth, width=512 if depth < 50 else 2048)
    if 'patch_embed.projection.weight' not in tensors:
        raise ConfigError(f'{path} holds no ViT, BEiT or ResNet to start from')
    width, _, patch_size, _ = tensors['patch_embed.projection.weight'].shape
    heads = width // _HEAD_WIDTH
    if file.record:
        net: Any = file.build()
        heads = net.layers[0].attn.num_heads
    arch = dict(
        embed_dims=width,
        num_layers=_count(tensors, 'layers.#.ln1.weight'),
        num_heads=heads,
        feedforward_channels=len(tensors['layers.0.ffn.layers.0.0.weight']),
    )
    return dict(patch_size=patch_size, arch=arch, relative='pos_embed' not in tensors)


def _count(tensors: dict[str, Tensor], name: str) -> int:
    """Count the layers that have a tensor of this name; # is their number."""
    return sum(name.replace('#', str(i)) in tensors for i in range(100))
