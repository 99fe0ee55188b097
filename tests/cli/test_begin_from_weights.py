# Copyright (c) mmcim contributors. All rights reserved.
"""``load_from`` of models with a momentum encoder: no encoder stays random."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmcim.engine.checks import begin_from_weights

from ..backbone_files import write_backbone
from ..models.selfsup.test_baselines import mocov3
from ..models.selfsup.test_conmim import conmim
from ..models.selfsup.test_corrim import corrim

CONFIGS = dict(conmim=conmim, corrim=corrim, mocov3=mocov3)


def build(name, seed):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(CONFIGS[name]())
    model.init_weights()
    with torch.no_grad():  # in the middle of a training the two encoders differ
        for param in model.momentum_encoder.parameters():
            param.add_(torch.randn_like(param))
    return model


def kept_prefix(model):
    return getattr(model, 'backbone_prefix', 'backbone.')


def state(model, prefix):
    tensors = model.state_dict()
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


@pytest.mark.parametrize('name', CONFIGS)
def test_exported_backbone_initialises_both_encoders(name, tmp_path):
    source, model = build(name, 0), build(name, 1)
    kept = state(source, kept_prefix(source))
    write_backbone(tmp_path / 'backbone.safetensors', kept)
    begin_from_weights(model, tmp_path / 'backbone.safetensors')
    for prefix in ('backbone.', 'momentum_encoder.backbone.'):
        for key, value in state(model, prefix).items():
            assert value.equal(kept[key]), prefix + key


@pytest.mark.parametrize('name', CONFIGS)
def test_load_from_takes_both_encoders(name, tmp_path):
    source, model = build(name, 0), build(name, 1)
    meta = dict(backbone_prefix=kept_prefix(source))
    torch.save(dict(state_dict=source.state_dict(), meta=meta), tmp_path / 'x.pth')
    begin_from_weights(model, tmp_path / 'x.pth')
    for key, value in source.state_dict().items():
        assert model.state_dict()[key].equal(value), key
