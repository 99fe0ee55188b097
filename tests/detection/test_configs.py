# Copyright (c) mmcim contributors. All rights reserved.
"""Recipes of the configs, and how they follow a file."""

from importlib.util import find_spec

import pytest
import torch
from mmpretrain.registry import MODELS

from mmcim.checkpoints import adopt_pretrained
from mmcim.models import WindowedBEiTViT, WindowedViT
from mmcim.utils import ConfigError, load_config

from ..conftest import REPO

if not find_spec('mmdet'):
    pytest.skip('mmdetection is missing: .ci/install_det.sh', allow_module_level=True)

FOLDER = REPO / 'configs/detection'
VITDET, MIMDET = (
    '{}_mask-rcnn_8xb8-184k_coco-1024',
    '{}_conmim_mask-rcnn_8xb8-25e_coco-1024',
)


def load(name, pretrained=None):
    return load_config(FOLDER / f'{name}.py', pretrained=pretrained)


def shared(cfg):
    """What all configs on COCO have."""
    assert cfg.model.data_preprocessor.pad_size_divisor == 1024
    _, _, jitter, crop, *_ = cfg.train_dataloader.dataset.pipeline
    assert jitter.scale == crop.crop_size == (1024, 1024)
    assert jitter.ratio_range == (0.1, 2.0)
    assert cfg.auto_scale_lr.base_batch_size == 64


@pytest.mark.parametrize(
    ('size', 'arch', 'decay', 'drop_path'),
    [
        ('vit-s', 'deit-small', 0.7, 0.1),
        ('vit-b', 'deit-base', 0.7, 0.1),
        ('vit-l', 'large', 0.8, 0.4),
    ],
)
def test_vitdet(size, arch, decay, drop_path):
    cfg = load(VITDET.format(size))
    shared(cfg)
    net, optim = cfg.model.backbone, cfg.optim_wrapper
    assert (net.type, net.arch) == ('mmpretrain.WindowedViT', arch)
    assert (net.window_size, net.drop_path_rate) == (14, drop_path)
    assert (optim.optimizer.type, optim.optimizer.lr) == ('AdamW', 1e-4)
    assert optim.paramwise_cfg.layer_decay_rate == decay
    assert optim.optimizer.weight_decay == 0.1
    assert cfg.train_cfg.max_iters == 184375
    assert cfg.param_scheduler[1].milestones == [163889, 177546]
    assert cfg.model.neck.norm_cfg.type == 'mmpretrain.LN2d'


@pytest.mark.parametrize('size', ['vit-s', 'vit-b', 'vit-l'])
def test_mimdet(size):
    cfg = load(MIMDET.format(size))
    shared(cfg)
    net, optim = cfg.model.backbone, cfg.optim_wrapper
    assert (net.type, net.window_size) == ('mmpretrain.WindowedBEiTViT', 16)
    assert (optim.optimizer.type, optim.optimizer.lr) == ('AdamW', 8e-5)
    assert 'layer_decay_rate' not in optim.get('paramwise_cfg', {})
    assert optim.optimizer.weight_decay == 0.1
    assert cfg.train_cfg.max_epochs == 25
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.end == cosine.begin == 0.25
    assert cosine.type == 'CosineAnnealingLR'
    assert cfg.model.neck.norm_cfg == dict(type='BN')
    assert cfg.sync_bn == 'torch'


def test_resnet():
    cfg = load(VITDET.format('resnet50'))
    shared(cfg)
    assert cfg.model.backbone.type == 'mmpretrain.ResNet'
    assert 'frozen_stages' not in cfg.model.backbone
    assert cfg.model.neck.type == 'FPN'
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.1, momentum=0.9, weight_decay=4e-5
    )


def test_folder_config_follows_the_file(backbone_file):
    cfg = load('vit_mask-rcnn_1xb2-2k_coco-folder', backbone_file)
    adopt_pretrained(cfg)
    assert cfg.model.neck.in_channels == 64
    assert cfg.model.roi_head.mask_head.num_classes == 1
    assert cfg.model.data_preprocessor.mean == [60.0] * 3
    net = MODELS.build(cfg.model.backbone)
    net.init_weights()
    assert isinstance(net, WindowedViT | WindowedBEiTViT)
    assert [layer.window_size for layer in net.layers] == [0] * 4  # the last of a quarter
    assert net(torch.randn(1, 3, 64, 96))[0].shape == (1, 64, 4, 6)


def test_file_of_another_width_is_refused(backbone_file):
    cfg = load(VITDET.format('vit-b'), backbone_file)
    with pytest.raises(ConfigError, match='with 64 channels, but the config is for 768'):
        adopt_pretrained(cfg)
