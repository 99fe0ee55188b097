# Copyright (c) mmcim contributors. All rights reserved.
"""A file with the backbone of a pre-training, of either family of ViTs."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from ..backbone_files import write_backbone

ARCH = dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128)
FILES = {
    'VisionTransformer': dict(out_type='featmap'),
    'FusedBEiTPretrainViT': dict(layer_scale_init_value=0.1),
}


def randomise(net, std=0.2):
    torch.manual_seed(0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=std)
    net.eval()
    return net


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture(params=FILES)
def backbone_file(request, tmp_path):
    config = dict(type=request.param, arch=ARCH, img_size=64, **FILES[request.param])
    net = randomise(MODELS.build(dict(config)))
    path = tmp_path / 'epoch_1_backbone.safetensors'
    write_backbone(path, net.state_dict(), config, mean=[60.0] * 3, std=[60.0] * 3)
    return str(path)
