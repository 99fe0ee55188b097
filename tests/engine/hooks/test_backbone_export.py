# Copyright (c) mmcim contributors. All rights reserved.
"""The exported backbone matches its checkpoint and is removed with it."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from mmcim.checkpoints import BackboneFile, BackboneRecord, backbone_path, load_checkpoint
from mmcim.engine.hooks import BackboneExportHook
from tests.checkpoints.conftest import build, resnet, vit
from tests.engine.conftest import Line

CONFIG = dict(type='Linear', in_features=1, out_features=1)


class LineWithBackbone(Line):
    """Its backbone is one of two trained layers."""

    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.line = nn.Sequential(self.backbone, self.head)


@pytest.fixture
def train(make_runner):
    """Train a model with a backbone and return the runner."""

    def train(hooks=(), checkpoint=(), config=CONFIG, **kwargs):
        runner = make_runner(
            [dict(type='BackboneExportHook'), *hooks],
            model=LineWithBackbone(),
            checkpoint=dict(
                type='SafeCheckpointHook', **{'interval': 1, **dict(checkpoint)}
            ),
            **kwargs,
        )
        runner.cfg.model = dict(type='LineWithBackbone', backbone=config)
        runner.train()
        return runner

    return train


def written(step):
    return [f'+{step}.pth', f'+{step}_backbone.safetensors']


def removed(step):
    return [f'-{step}_backbone.safetensors', f'-{step}.pth']


def test_backbone_file_is_removed_with_its_checkpoint(train, events, tmp_path):
    train(
        checkpoint=dict(max_keep_ckpts=1, save_best='score', rule='greater'),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        scores=[0.1, 0.3, 0.2],
    )
    best = 'best_score_epoch_{}'
    assert events == [
        *written('epoch_1'),
        *[f'+{best}.pth'.format(1), f'+{best}_backbone.safetensors'.format(1)],
        *written('epoch_1'),
        *[*written('epoch_2'), *removed('epoch_1')],
        *[f'+{best}.pth'.format(2), f'+{best}_backbone.safetensors'.format(2)],
        *written('epoch_2'),
        *removed(best.format(1)),
        *[*written('epoch_3'), *removed('epoch_2')],
    ]
    assert {p.name for p in tmp_path.glob('*.safetensors')} == {
        'epoch_3_backbone.safetensors',
        'best_score_epoch_2_backbone.safetensors',
    }


def exported(checkpoint):
    """Check that both files agree, and return the exported one."""
    file = BackboneFile.read(backbone_path(checkpoint))
    same = BackboneFile.read(checkpoint)
    assert (same.record.prefix, file.record.prefix) == ('backbone.', '')
    same.record.prefix = ''
    assert file.record == same.record
    tensors = same.below('backbone.')
    assert set(file.tensors) == set(tensors) == {'weight', 'bias'}
    for name, value in tensors.items():
        assert torch.equal(file.tensors[name], value)
    return file


def test_backbone_file_has_checkpoint_weights(train, tmp_path):
    """With averaged weights, if another hook has put them into the checkpoint."""
    runner = train(
        [dict(type='EMAHook', momentum=0.1)],
        checkpoint=dict(save_best='score', rule='greater'),
        scores=[0.1, 0.3],
    )
    for name, epoch in [('epoch_1', 1), ('epoch_2', 2), ('best_score_epoch_2', 2)]:
        file = exported(tmp_path / f'{name}.pth')
        assert file.record.config == CONFIG
        assert file.record.origin == dict(
            method='LineWithBackbone', epoch=epoch, iter=2 * epoch
        )
    assert not torch.equal(file.tensors['weight'], runner.model.backbone.weight)


def test_backbone_file_of_iteration_checkpoint(train, tmp_path):
    train(
        checkpoint=dict(interval=3, by_epoch=False),
        train_cfg=dict(by_epoch=False, max_iters=3),
    )
    assert exported(tmp_path / 'iter_3.pth').record.origin['iter'] == 3


def test_smaller_max_keep_ckpts_removes_backbones(train, tmp_path):
    train(checkpoint=dict(max_keep_ckpts=3), train_cfg=dict(by_epoch=True, max_epochs=3))
    assert len(list(tmp_path.glob('*.safetensors'))) == 3
    train(
        checkpoint=dict(max_keep_ckpts=1),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        resume=True,
        override=True,
    )
    assert {p.stem for p in tmp_path.glob('epoch*')} == {'epoch_4', 'epoch_4_backbone'}


def test_model_without_config_is_not_exported(train, tmp_path):
    """There is no config to record."""
    train(config='an object')
    assert not list(tmp_path.glob('*.safetensors'))
    assert 'backbone' not in load_checkpoint(tmp_path / 'epoch_2.pth')['meta']


def saved_by(model, config=CONFIG):
    """The hook's entry in the ``meta`` of a model's checkpoint."""
    bare = getattr(model, 'module', model)
    checkpoint = dict(meta=dict(epoch=1, iter=8), state_dict=bare.state_dict())
    cfg = Config(dict(model=dict(backbone=config)))
    BackboneExportHook().before_save_checkpoint(
        SimpleNamespace(model=model, cfg=cfg), checkpoint
    )
    text = checkpoint['meta'].get('backbone')
    return text and BackboneRecord(**json.loads(text))


def test_wrapped_model_is_exported():
    record = saved_by(nn.DataParallel(LineWithBackbone()))
    assert record.origin['method'] == 'LineWithBackbone'
    assert (record.prefix, record.config) == ('backbone.', CONFIG)


def test_model_without_backbone_is_not_exported():
    network = dict(type='DiscreteVAENet', stride=4, vocab_size=8, width=8, code_dims=4)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        trainer = MODELS.build(dict(type='DiscreteVAETrainer', backbone=network))
    assert saved_by(trainer) is None
    assert saved_by(Line()) is None


def test_hook_forgets_previous_model(tmp_path):
    """A hook that has exported one model must not export it again for the next."""
    hook = BackboneExportHook()
    for model in (LineWithBackbone(), Line()):
        cfg = Config(dict(model=dict(backbone=CONFIG)))
        checkpoint = dict(meta=dict(epoch=1, iter=8), state_dict=model.state_dict())
        hook.before_save_checkpoint(SimpleNamespace(model=model, cfg=cfg), checkpoint)
    hook.after_save_checkpoint(None, str(tmp_path / 'epoch_1.pth'))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('config', [vit('FusedBEiTViT'), resnet()])
def test_derived_tensors_are_not_exported(tmp_path, config):
    model = nn.Module()
    model.backbone = build(config)
    hook = BackboneExportHook()
    checkpoint = dict(meta=dict(epoch=1, iter=8), state_dict=model.state_dict())
    cfg = Config(dict(model=dict(backbone=config)))
    hook.before_save_checkpoint(SimpleNamespace(model=model, cfg=cfg), checkpoint)
    hook.after_save_checkpoint(None, str(tmp_path / 'epoch_1.pth'))
    file = BackboneFile.read(tmp_path / 'epoch_1_backbone.safetensors')
    names = {n for n in model.backbone.state_dict() if not n.endswith('position_index')}
    assert file.tensors.keys() == names
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    assert BackboneFile.read(tmp_path / 'epoch_1.pth').below('backbone.').keys() == names


def test_missing_backbone_is_written_on_resume(train, tmp_path):
    """A kill came between the two files; another hook has averaged the weights."""
    averaged = [dict(type='EMAHook', momentum=0.1)]
    train(averaged)
    path = tmp_path / 'epoch_2_backbone.safetensors'
    whole = BackboneFile.read(path)
    path.unlink()
    train(averaged, resume=True)
    again = exported(tmp_path / 'epoch_2.pth')
    assert again.record == whole.record
    assert torch.equal(again.tensors['weight'], whole.tensors['weight'])
