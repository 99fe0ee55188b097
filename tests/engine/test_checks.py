# Copyright (c) mmcim contributors. All rights reserved.
"""What a run starts from; the other checks are in test_run_record.py."""

import pytest
import torch
from mmpretrain.models.utils import CosineEMA
from torch import nn

from mmcim.checkpoints import BackboneRecord, save_backbone
from mmcim.checkpoints.record import tensors_sha256
from mmcim.engine.checks import begin_from_weights
from mmcim.models import DevicePreprocessor
from mmcim.models.layers.momentum import MomentumEncoder, momentum_encoder_of
from mmcim.utils import ConfigError


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


NOTES = dict(
    missing=(b'/nowhere/epoch_9.pth', r"'/nowhere/epoch_9.pth', which is not there"),
    text=(b'line 1\nline 2' * 50, r"names 'line 1\\nline 2"),
    binary=(bytes(range(256)), 'which is not there'),
    empty=(b'', "names '', which"),
)


@pytest.mark.parametrize('name', NOTES)
def test_garbage_in_last_checkpoint_is_an_error_of_one_line(make_runner, tmp_path, name):
    make_runner().train()
    content, message = NOTES[name]
    (tmp_path / 'last_checkpoint').write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        make_runner(resume=True).train()
    assert '\n' not in str(error.value) and len(str(error.value)) < 500
    assert str(error.value).endswith(f'--resume {tmp_path}/epoch_2.pth')


@pytest.mark.parametrize('damage', ['truncated', 'NaN'])
def test_damaged_checkpoint_is_named_with_the_one_before(make_runner, tmp_path, damage):
    make_runner().train()
    newest, before = tmp_path / 'epoch_2.pth', tmp_path / 'epoch_1.pth'
    if damage == 'NaN':
        checkpoint = torch.load(newest, weights_only=True)
        checkpoint['state_dict']['line.bias'].fill_(torch.nan)
        torch.save(checkpoint, newest)
    else:
        newest.write_bytes(newest.read_bytes()[:-300])
    with pytest.raises(ConfigError, match=f'{newest} .*--resume {before}$'):
        make_runner(resume=True).train()
    make_runner(resume=True, load_from=str(before)).train()
    make_runner(resume=True).train()
