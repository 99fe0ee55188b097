# Copyright (c) mmcim contributors. All rights reserved.
"""Public weights to start a pre-training from: where they are, and of which network."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from torch import Tensor

from ..utils.errors import ConfigError
from .file import BackboneFile
from .names import to_mmpretrain

_IMAGENET = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
# Blocks in the third stage of a ResNet, and whether they are bottlenecks -> depth.
_RESNETS = {
    (2, False): 18,
    (6, False): 34,
    (6, True): 50,
    (23, True): 101,
    (36, True): 152,
}
_HEAD_WIDTH = 64  # of all of the usual ViTs; a file does not say it
# Methods whose network has relative positions alone, as BEiT's.
_RELATIVE = ('beit', 'conmim', 'simmim')


@dataclass
class PublicWeights:
    """A file of weights to start from; by default none.

    Attributes:
        path: The file.
        normalization: Mean and std of R, G and B that it was trained with, on the scale
            0..255; ImageNet's if unknown.
        network: Of a ResNet ``depth`` and ``width``, of its last stage; of a ViT or BEiT
            ``patch_size``, ``arch`` as mmpretrain's networks take it, and ``relative``,
            True if it has relative positions alone. Empty without a file.
    """

    path: str | None = None
    normalization: tuple[list[float], list[float]] = _IMAGENET
    network: dict[str, Any] = field(default_factory=dict)

    def check(self, method: str) -> str:
        """Give the architecture, 'resnet' or 'vit'.

        Args:
            method: That is to start from the weights.

        Raises:
            ConfigError: If its network has other position embeddings.
        """
        if 'depth' in self.network:
            return 'resnet'
        if self.network['relative'] != (method in _RELATIVE):
            kind = 'relative' if self.network['relative'] else 'absolute'
            raise ConfigError(
                f'{self.path} has {kind} positions, which do not fit {method}: those of '
                f'{", ".join(_RELATIVE)} are relative, of the other methods absolute'
            )
        return 'vit'


def find_weights(name: str, folder: Path) -> PublicWeights:
    """Find a file of weights, or let timm download a model into one.

    Args:
        name: A file, or the name of a timm model.
        folder: Where a downloaded model is kept.

    Raises:
        ConfigError: If there is neither a file nor a model, or of an unknown network.
    """
    if os.path.isfile(name):
        file = BackboneFile.read(name)
        return PublicWeights(
            os.path.abspath(name), file.normalization or _IMAGENET, _network(file)
        )
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
    mean, std = ([255 * v for v in model.pretrained_cfg[k]] for k in ('mean', 'std'))
    return PublicWeights(str(path), (mean, std), _network(BackboneFile.read(path)))


def _network(file: BackboneFile) -> dict[str, Any]:
    """Tell the network by the shapes of its tensors, see :class:`PublicWeights`."""
    tensors = to_mmpretrain(file.below(file.prefix or ''))
    blocks, bottleneck = _count(tensors, 'layer3.#.conv1'), 'layer3.0.conv3.weight'
    if depth := _RESNETS.get((blocks, bottleneck in tensors)):
        return dict(depth=depth, width=512 if depth < 50 else 2048)
    if 'patch_embed.projection.weight' not in tensors:
        raise ConfigError(f'{file.path} holds no ViT, BEiT or ResNet to start from')
    width, _, patch_size, _ = tensors['patch_embed.projection.weight'].shape
    net: Any = file.build() if file.record else None
    arch = dict(
        embed_dims=width,
        num_layers=_count(tensors, 'layers.#.ln1'),
        num_heads=net.layers[0].attn.num_heads if net else width // _HEAD_WIDTH,
        feedforward_channels=len(tensors['layers.0.ffn.layers.0.0.weight']),
    )
    return dict(patch_size=patch_size, arch=arch, relative='pos_embed' not in tensors)


def _count(tensors: Mapping[str, Tensor], layer: str) -> int:
    """Count the layers of this name, whose # is a number."""
    return sum(f'{layer.replace("#", str(i))}.weight' in tensors for i in range(100))
