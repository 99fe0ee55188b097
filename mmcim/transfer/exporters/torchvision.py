# Copyright (c) mmcim contributors. All rights reserved.
"""torchvision's ResNets, which name their tensors as mmpretrain's do."""

import torch
import torchvision
from torch import nn

from ...utils.errors import ConfigError
from .architecture import check_resnet, is_transformer


def convert(net: nn.Module) -> str:
    """Name torchvision's function that builds the network.

    Args:
        net (nn.Module): The network, of mmpretrain.

    Returns:
        str: Such as 'resnet50'.

    Raises:
        ConfigError: If it is no plain ResNet.
    """
    if is_transformer(net):
        raise ConfigError(
            f'--to torchvision takes a ResNet, and this is a {type(net).__name__}; '
            '--to timm and --to hf take it'
        )
    check_resnet(net)
    return f'resnet{net.depth}'


def load(path: str, name: str) -> nn.Module:
    """Open what was written, without its head; gives a feature map."""
    model = getattr(torchvision.models, name)()
    model.fc = nn.Identity()
    model.load_state_dict(torch.load(path, weights_only=True))
    return nn.Sequential(*list(model.children())[:-2]).eval()
