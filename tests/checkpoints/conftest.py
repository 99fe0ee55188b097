# Copyright (c) mmcim contributors. All rights reserved.
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def build(config):
    """Build a model of mmpretrain with random values in all of its tensors."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            # A running variance is positive.
            value.uniform_(0.1, 1) if 'running' in name else value.normal_(std=0.3)
    return model


def vit(type='VisionTransformer', img_size=32, **kwargs):
    arch = {**ARCH, **kwargs.pop('arch', {})}
    kwargs.setdefault('out_type', 'featmap')
    return dict(type=type, arch=arch, img_size=img_size, patch_size=8, **kwargs)


def resnet(**kwargs):
    return dict(type='ResNet', depth=18, stem_channels=8, base_channels=8, **kwargs)


def arrived(module, source, prefix=''):
    """The names in a module whose tensors are exactly those of a state dict."""
    return {
        name
        for name, value in module.state_dict().items()
        if prefix + name in source and torch.equal(value, source[prefix + name])
    }


@pytest.fixture
def log(monkeypatch):
    """Lines that the loader logs."""
    lines = []
    logger = SimpleNamespace(info=lines.append)
    logging = SimpleNamespace(get_current_instance=lambda: logger)
    monkeypatch.setattr('mmcim.checkpoints.load.MMLogger', logging)
    return lines
