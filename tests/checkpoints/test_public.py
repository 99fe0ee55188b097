# Copyright (c) mmcim contributors. All rights reserved.
"""Weights to start from: files of timm, of mmcim, and what does not fit."""

import pytest
import timm
import torch
from mmpretrain.registry import MODELS

from mmcim.checkpoints.public import PublicWeights, find_weights
from mmcim.utils import ConfigError

from ..backbone_files import write_backbone

VIT_TI = dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768)


def save(name, path):
    torch.save(timm.create_model(name).state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    'name, network, arch',
    [
        (
            'vit_tiny_patch16_224',
            dict(patch_size=16, arch=VIT_TI, relative=False),
            'vit',
        ),
        ('resnet18', dict(depth=18, width=512), 'resnet'),
        ('resnet50', dict(depth=50, width=2048), 'resnet'),
    ],
)
def test_network_of_a_file_of_timm(name, network, arch, tmp_path):
    weights = find_weights(save(name, tmp_path / 'weights.pth'), tmp_path)
    assert weights.network == network
    assert weights.check('mae') == arch
    assert weights.normalization[0] == [123.675, 116.28, 103.53]


def test_number_of_heads_of_a_recorded_backbone(tmp_path):
    arch = dict(VIT_TI, embed_dims=32, num_heads=4, num_layers=2, feedforward_channels=64)
    config = dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8)
    net, known = MODELS.build(dict(config)), dict(mean=[1.0] * 3, std=[2.0] * 3)
    path = tmp_path / 'backbone.safetensors'
    write_backbone(path, net.state_dict(), config, **known)
    weights = find_weights(str(path), tmp_path)
    assert weights.network == dict(patch_size=8, arch=arch, relative=False)
    assert weights.normalization == ([1.0] * 3, [2.0] * 3)


def test_a_name_is_downloaded_by_timm_and_kept(monkeypatch, tmp_path):
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, pretrained: create(name))
    weights = find_weights('vit_tiny_patch16_224.augreg_in21k', tmp_path / 'out')
    assert weights.path == f'{tmp_path}/out/vit_tiny_patch16_224.augreg_in21k.safetensors'
    assert weights.normalization == ([127.5] * 3, [127.5] * 3)  # not ImageNet's
    assert weights.network['arch'] == VIT_TI


def test_neither_a_file_nor_a_model(tmp_path):
    with pytest.raises(ConfigError, match='nowhere.pth is no file, and timm cannot load'):
        find_weights('nowhere.pth', tmp_path)


def test_another_network_is_refused(tmp_path):
    path = tmp_path / 'mlp.pth'
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(ConfigError, match='holds no ViT, BEiT or ResNet'):
        find_weights(str(path), tmp_path)


def test_positions_have_to_fit_the_method():
    beit = PublicWeights('beit.pth', network=dict(relative=True))
    assert beit.check('conmim') == 'vit'
    with pytest.raises(ConfigError, match='beit.pth has relative positions'):
        beit.check('mae')
    with pytest.raises(ConfigError, match='vit.pth has absolute positions'):
        PublicWeights('vit.pth', network=dict(relative=False)).check('beit')
