# Copyright (c) mmcim contributors. All rights reserved.
"""What masks, or is fixed in part, in a pre-training, and what it is opened as."""

import json

import pytest
import torch
from mmcim.checkpoints.after_pretraining import config_after_pretraining
from mmpretrain.registry import MODELS

from mmcim.apis import extract_features, load_backbone
from mmcim.checkpoints import save_backbone

from .conftest import build, vit

FIXED = dict(stop_grad_conv1=True)
# Name -> the config of the pre-training, and the class for use after it. Defaults that
# differ between the two are taken in some and given in others.
NETWORKS = {
    'BEiT': (vit('FusedBEiTPretrainViT', out_type='raw'), 'FusedBEiTViT'),
    'BEiT, positions of layers': (
        vit(
            'FusedBEiTPretrainViT', use_rel_pos_bias=True, use_shared_rel_pos_bias=False,
            final_norm=False, layer_scale_init_value=0,
        ),
        'FusedBEiTViT',
    ),
    'CorrIM': (vit('FixedPositionViT', out_type='raw', **FIXED), 'VisionTransformer'),
    'MoCo v3': (vit('mmpretrain.MoCoV3ViT', **FIXED), 'VisionTransformer'),
    'MAE': (vit('MAEBaselineViT', mask_ratio=0.6), 'VisionTransformer'),
}  # fmt: skip
DEFAULTS = dict(BEiT='raw', MAE='raw')
MEAN, STD = [127.5] * 3, [63.75] * 3


@pytest.fixture(params=NETWORKS)
def trained(request, tmp_path):
    """A network of a pre-training, its file, and the class for use after it."""
    config, kind = NETWORKS[request.param]
    if request.param in DEFAULTS:
        config = {k: v for k, v in config.items() if k != 'out_type'}
    torch.manual_seed(0)
    network = build(config)
    network.train(False)
    path = tmp_path / 'epoch_1_backbone.safetensors'
    metadata = dict(mean=json.dumps(MEAN), std=json.dumps(STD))
    metadata['backbone'] = json.dumps(config)
    save_backbone(path, network.state_dict(), metadata)
    return network, path, kind


def test_same_features_of_whole_pictures(trained):
    network, path, kind = trained
    opened = load_backbone(path)
    assert type(opened).__name__ == kind
    images = torch.randn(2, 3, 32, 32)
    masked = type(network).__name__ in ('FusedBEiTPretrainViT', 'MAEBaselineViT')
    with torch.no_grad():
        before = network(images, None)[-1] if masked else network(images)[-1]
        after = opened(images)[-1]
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * before.abs().max())
    mask = {'mask_token'} if 'Pretrain' in type(network).__name__ else set()
    assert opened.state_dict().keys() == network.state_dict().keys() - mask


def test_other_sizes_and_nothing_fixed(trained):
    _, path, _ = trained
    network = load_backbone(path)
    assert all(parameter.requires_grad for parameter in network.parameters())
    for size in ((32, 32), (64, 64), (24, 48)):
        assert extract_features(network, torch.rand(2, 3, *size)).shape == (2, 32)
    # Made for that size, it gives the same as one that follows the size.
    images = torch.rand(2, 3, 48, 48)
    larger = load_backbone(path, img_size=48)
    similarity = torch.cosine_similarity(
        extract_features(larger, images), extract_features(network, images)
    )
    assert similarity.min() > 0.99


def test_defaults_are_written_out():
    config = config_after_pretraining(dict(type='FusedBEiTPretrainViT', img_size=64))
    assert config == dict(
        type='FusedBEiTViT',
        img_size=64,
        final_norm=True,
        out_type='raw',
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        patch_cfg=dict(padding=0),
    )
    config = dict(type='MAEBaselineViT', arch='s', out_type='cls_token', mask_ratio=0.5)
    expected = dict(type='VisionTransformer', arch='s', out_type='cls_token')
    assert config_after_pretraining(config) == expected


def test_the_size_that_only_moco_names():
    config = dict(type='FixedPositionViT', arch='mocov3-small', patch_size=16)
    network = MODELS.build(config_after_pretraining(config))
    expected = MODELS.build(config)
    assert network.arch_settings == expected.arch_settings


@pytest.mark.parametrize('kind', ['VisionTransformer', 'mmseg.MAEViT', 'ResNet'])
def test_other_networks_stay(kind):
    config = dict(type=kind, mask_ratio=0.5)
    assert config_after_pretraining(config) == config
