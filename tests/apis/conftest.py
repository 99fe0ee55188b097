# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmpretrain.registry import MODELS

from ..backbone_files import write_backbone as write_file

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture(scope='session')
def write_backbone(tmp_path_factory):
    """Write exported random weights: ``write_backbone(config) -> path``."""
    folder = tmp_path_factory.mktemp('backbones')

    def write(config, **known):
        torch.manual_seed(0)
        network = MODELS.build(dict(config))
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, 0.1, 0.1)
        path = folder / f'{len(list(folder.iterdir()))}_backbone.safetensors'
        known = dict(mean=MEAN, std=STD) | known
        write_file(path, network.state_dict(), config, **known)
        return path

    return write


@pytest.fixture(scope='session')
def vit(write_backbone):
    """A small ViT for 32 px; the path of its file."""
    config = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    return write_backbone(dict(config, out_type='featmap'))
