# Copyright (c) mmcim contributors. All rights reserved.
"""What a run starts from; the other checks are in test_run_record.py."""

import pytest
from mmpretrain.models.utils import CosineEMA
from torch import nn

from mmcim.checkpoints import BackboneRecord, save_backbone
from mmcim.checkpoints.record import tensors_sha256
from mmcim.engine.checks import begin_from_weights
from mmcim.models import DevicePreprocessor
from mmcim.models.layers.momentum import MomentumEncoder, momentum_encoder_of


def test_momentum_encoders_of_mmpretrain_update_themselves():
    model = nn.Module()
    model.backbone = nn.Linear(1, 1)
    model.momentum_encoder = CosineEMA(model.backbone, momentum=0.1)
    assert momentum_encoder_of(model) is None
    model.momentum_encoder = MomentumEncoder(model, ['backbone'])
    assert momentum_encoder_of(model) is model.momentum_encoder


def test_different_normalization_needs_override(tmp_path):
    model = nn.Module()
    model.backbone, model.data_preprocessor = nn.Linear(1, 1), DevicePreprocessor()
    tensors = model.backbone.state_dict()
    mean, std = [127.5] * 3, [58.395, 57.12, 57.375]
    record = BackboneRecord({}, tensors_sha256(tensors), mean=mean, std=std)
    save_backbone(tmp_path / 'x.safetensors', tensors, record)
    with pytest.raises(ValueError, match='another normalization: mean.0 is 127.5'):
        begin_from_weights(model, tmp_path / 'x.safetensors')
    begin_from_weights(model, tmp_path / 'x.safetensors', override=True)
    assert model.backbone.normalization == (mean, std)
