# Copyright (c) mmcim contributors. All rights reserved.
"""What a run starts from; the other checks are in test_run_record.py."""

import uuid

import pytest
import torch
from mmpretrain.models.utils import CosineEMA
from mmpretrain.registry import MODELS
from torch import nn

from mmcim.checkpoints import BackboneRecord, save_backbone
from mmcim.checkpoints.layout import normalization
from mmcim.checkpoints.record import tensors_sha256
from mmcim.cli.show import load_model
from mmcim.engine.checks import begin_from_weights
from mmcim.engine.run_record import describe_tokenizers
from mmcim.models import DevicePreprocessor
from mmcim.models.layers.momentum import MomentumEncoder, momentum_encoder_of
from mmcim.utils import ConfigError, build_runner, load_config


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
    with pytest.raises(ValueError, match='learnt from other inputs: mean.0 is 127.5'):
        begin_from_weights(model, tmp_path / 'x.safetensors')
    begin_from_weights(model, tmp_path / 'x.safetensors', override=True)
    assert model.backbone.normalization == (mean, std)


@pytest.fixture
def cim(repo, tmp_path):
    """A checkpoint of CIM, and its config with either of two tokenizers."""
    sizes = dict(stride=4, vocab_size=32, width=8, depth=1, code_dims=8)
    files = {name: tmp_path / f'{name}.pth' for name in ('own', 'other')}
    for file in files.values():
        net = MODELS.build(dict(type='DiscreteVAENet', **sizes))
        torch.save(net.state_dict(), file)

    def config(tokenizer, **options):
        options |= {
            'model.tokenizer.checkpoint': str(files[tokenizer]),
            'experiment_name': str(uuid.uuid4()),
            'log_level': 'ERROR',
        }
        path = repo / 'configs/quickstart/cim_respix.py'
        return load_config(path, options, str(tmp_path / 'run'))

    model = load_model(config('own'), None)
    run = dict(tokenizers=describe_tokenizers(model))
    run['data_preprocessor'] = normalization(model)
    run['train_dataloader'] = dict(dataset=dict(classes=None, image_size=None))
    content = dict(state_dict=model.state_dict(), meta=dict(run=run))
    torch.save(content, tmp_path / 'cim.pth')
    return config, str(tmp_path / 'cim.pth')


def in_show(config, checkpoint):
    load_model(config, checkpoint)


def in_test(config, checkpoint):
    config.load_from = checkpoint
    build_runner(config, 'test').load_or_resume()


def in_training(config, checkpoint):
    config.load_from = checkpoint
    runner = build_runner(config, 'train')
    begin_from_weights(runner.model, checkpoint, config.get('override', False))


@pytest.mark.parametrize('load', [in_show, in_test, in_training])
def test_other_inputs_need_override(cim, load):
    """Wherever a checkpoint is loaded, its tokenizer and normalization are compared."""
    config, checkpoint = cim
    load(config('own'), checkpoint)
    for options, named in (
        (dict(tokenizer='other'), 'tokenizer.sha256 is'),
        ({'tokenizer': 'own', 'data_preprocessor.std': [9.0] * 3}, 'std.0 is'),
    ):
        with pytest.raises(ConfigError, match=named):
            load(config(**options), checkpoint)
        load(config(**options, override=True), checkpoint)


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
