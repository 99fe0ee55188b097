# Copyright (c) mmcim contributors. All rights reserved.
"""The order of writing and removing; tools/test_train.py kills a process."""

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from mmcim.engine.hooks import SafeCheckpointHook
from mmcim.transfer.backbone_file import read_safetensors
from mmcim.utils import atomic_write, files, load_checkpoint
from tests.engine.conftest import Line


@pytest.fixture
def events(monkeypatch):
    """What appears and disappears under which name, in order."""
    happened = []
    replace, remove = os.replace, os.remove

    def note_replace(source, target):
        replace(source, target)
        happened.append(f'+{Path(target).name}')

    def note_remove(path, **kwargs):
        remove(path, **kwargs)
        if str(path).endswith(('.pth', '.safetensors')):
            happened.append(f'-{Path(path).name}')

    monkeypatch.setattr(os, 'replace', note_replace)
    monkeypatch.setattr(os, 'remove', note_remove)
    return happened


def hook(**kwargs):
    return dict(type='SafeCheckpointHook', interval=1, **kwargs)


def test_writes_then_names_then_removes(make_runner, events):
    make_runner(
        checkpoint=hook(max_keep_ckpts=2), train_cfg=dict(by_epoch=True, max_epochs=4)
    ).train()
    assert events == [
        *['+epoch_1.pth', '+last_checkpoint'],
        *['+epoch_2.pth', '+last_checkpoint'],
        *['+epoch_3.pth', '+last_checkpoint', '-epoch_1.pth'],
        *['+epoch_4.pth', '+last_checkpoint', '-epoch_2.pth'],
    ]


def test_best_is_replaced_only_after_the_new_one_is_there(make_runner, events, tmp_path):
    runner = make_runner(
        checkpoint=hook(max_keep_ckpts=1, save_best='score', rule='greater'),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        scores=[0.1, 0.3, 0.2, 0.5],
    )
    runner.train()
    assert events == [
        *['+epoch_1.pth', '+last_checkpoint'],
        *['+best_score_epoch_1.pth', '+epoch_1.pth', '+last_checkpoint'],
        *['+epoch_2.pth', '+last_checkpoint', '-epoch_1.pth'],
        *['+best_score_epoch_2.pth', '+epoch_2.pth', '+last_checkpoint'],
        '-best_score_epoch_1.pth',
        # The third epoch is no better.
        *['+epoch_3.pth', '+last_checkpoint', '-epoch_2.pth'],
        *['+epoch_4.pth', '+last_checkpoint', '-epoch_3.pth'],
        *['+best_score_epoch_4.pth', '+epoch_4.pth', '+last_checkpoint'],
        '-best_score_epoch_2.pth',
    ]
    info = load_checkpoint(tmp_path / 'epoch_4.pth')['message_hub']['runtime_info']
    assert info['best_score'] == 0.5
    assert info['best_ckpt'] == str(tmp_path / 'best_score_epoch_4.pth')
    assert info['keep_ckpt_ids'] == [4]


def test_best_is_known_after_resuming(make_runner, tmp_path):
    checkpoint = hook(save_best='score', rule='greater')
    make_runner(checkpoint=dict(checkpoint), scores=[0.4, 0.3]).train()
    make_runner(
        checkpoint=dict(checkpoint),
        scores=[0.35, 0.9],
        train_cfg=dict(by_epoch=True, max_epochs=4),
        resume=True,
        override=True,
    ).train()
    assert [p.name for p in tmp_path.glob('best*')] == ['best_score_epoch_4.pth']


def test_iterations_are_counted(make_runner, events):
    checkpoint = dict(
        type='SafeCheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=1
    )
    make_runner(
        checkpoint=checkpoint, train_cfg=dict(by_epoch=False, max_iters=4)
    ).train()
    assert events == [
        *['+iter_2.pth', '+last_checkpoint'],
        *['+iter_4.pth', '+last_checkpoint', '-iter_2.pth'],
    ]


def test_failed_write_keeps_the_previous_checkpoint(make_runner, monkeypatch, tmp_path):
    """A full disk, for example, when the only checkpoint would have to go."""
    fsync = os.fsync

    def full(fd):
        if 'epoch_2.pth' in os.readlink(f'/proc/self/fd/{fd}'):
            raise OSError(28, 'No space left on device')
        fsync(fd)

    monkeypatch.setattr(files.os, 'fsync', full)
    with pytest.raises(OSError, match='No space'):
        make_runner(checkpoint=hook(max_keep_ckpts=1)).train()
    left = {p.name for p in tmp_path.iterdir() if p.is_file()}
    assert {n for n in left if not n.endswith('.py')} == {
        'epoch_1.pth',
        'last_checkpoint',
    }
    assert load_checkpoint(tmp_path / 'epoch_1.pth')['meta']['epoch'] == 1
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')


def test_stale_files_are_removed_and_others_kept(make_runner, tmp_path):
    stale = tmp_path / '.epoch_7.pth.4711.tmp'
    others = [tmp_path / name for name in ('notes.tmp', '.hidden', '.a.tmp', 'x.1.tmp')]
    for path in [stale, *others]:
        path.write_text('')
    make_runner().train()
    assert not stale.exists()
    assert all(path.exists() for path in others)


@pytest.mark.parametrize(
    'argument', [dict(intervall=1), dict(backend_args=dict(backend='petrel'))]
)
def test_arguments_that_the_parent_swallows(make_runner, argument):
    (name,) = argument
    with pytest.raises(ValueError, match=f'SafeCheckpointHook has no argument {name}'):
        make_runner(checkpoint=hook(**argument))


def test_atomic_write_replaces_or_leaves(tmp_path):
    path = tmp_path / 'new' / 'file'
    with atomic_write(path) as file:
        file.write(b'one')
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b'tw')
        raise RuntimeError
    assert path.read_bytes() == b'one'
    assert list(path.parent.iterdir()) == [path]


# --------------------------------------------------------------------------------------
# The plain backbone


class LineWithBackbone(Line):
    """Its backbone is one of two layers, and both learn."""

    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.line = nn.Sequential(self.backbone, self.head)


def written(step):
    return [f'+{step}.pth', f'+{step}_backbone.safetensors', '+last_checkpoint']


def removed(step):
    return [f'-{step}_backbone.safetensors', f'-{step}.pth']


def test_backbone_comes_and_goes_with_its_checkpoint(make_runner, events, tmp_path):
    make_runner(
        model=LineWithBackbone(),
        checkpoint=hook(max_keep_ckpts=1, save_best='score', rule='greater'),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        scores=[0.1, 0.3, 0.2],
    ).train()
    best = 'best_score_epoch_{}'
    assert events == [
        *written('epoch_1'),
        *[f'+{best}.pth'.format(1), *written('epoch_1')],
        f'+{best}_backbone.safetensors'.format(1),
        *[*written('epoch_2'), *removed('epoch_1')],
        *[f'+{best}.pth'.format(2), *written('epoch_2')],
        f'+{best}_backbone.safetensors'.format(2),
        *removed(best.format(1)),
        *[*written('epoch_3'), *removed('epoch_2')],
    ]
    assert {p.name for p in tmp_path.glob('*.safetensors')} == {
        'epoch_3_backbone.safetensors',
        'best_score_epoch_2_backbone.safetensors',
    }


def assert_backbone_is_that_of(checkpoint):
    path = checkpoint.with_name(checkpoint.stem + '_backbone.safetensors')
    tensors, metadata = read_safetensors(path)
    content = load_checkpoint(checkpoint)
    assert content['meta']['backbone_prefix'] == 'backbone.'
    assert set(tensors) == {'weight', 'bias'}
    for name, value in tensors.items():
        assert torch.equal(value, content['state_dict'][f'backbone.{name}'])
    text = content['meta']['cfg']
    assert metadata.pop('config_sha256') == hashlib.sha256(text.encode()).hexdigest()
    return metadata, tensors


def test_backbone_has_the_weights_of_the_checkpoint(make_runner, tmp_path):
    """The averaged ones, where another hook has put them into the checkpoint."""
    runner = make_runner(
        [dict(type='EMAHook', momentum=0.1)],
        model=LineWithBackbone(),
        checkpoint=hook(save_best='score', rule='greater'),
        scores=[0.1, 0.3],
    )
    runner.train()
    for name, epoch in [('epoch_1', 1), ('epoch_2', 2), ('best_score_epoch_2', 2)]:
        metadata, tensors = assert_backbone_is_that_of(tmp_path / f'{name}.pth')
        # The model came as an object: no config builds it.
        assert metadata == dict(method='LineWithBackbone', epoch=str(epoch))
    assert not torch.equal(tensors['weight'], runner.model.backbone.weight)


def test_backbone_of_an_iteration(make_runner, tmp_path):
    make_runner(
        model=LineWithBackbone(),
        checkpoint=dict(type='SafeCheckpointHook', interval=3, by_epoch=False),
        train_cfg=dict(by_epoch=False, max_iters=3),
    ).train()
    metadata, _ = assert_backbone_is_that_of(tmp_path / 'iter_3.pth')
    assert metadata == dict(method='LineWithBackbone', iter='3')


def test_fewer_are_kept_after_resuming(make_runner, tmp_path):
    make_runner(
        model=LineWithBackbone(),
        checkpoint=hook(max_keep_ckpts=3),
        train_cfg=dict(by_epoch=True, max_epochs=3),
    ).train()
    assert len(list(tmp_path.glob('*.safetensors'))) == 3
    make_runner(
        model=LineWithBackbone(),
        checkpoint=hook(max_keep_ckpts=1),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        resume=True,
        override=True,
    ).train()
    assert {p.stem for p in tmp_path.glob('epoch*')} == {'epoch_4', 'epoch_4_backbone'}


def saved_by(model):
    """What the hook takes out of a checkpoint of a model, and the checkpoint."""
    hook = SafeCheckpointHook(interval=1)
    bare = getattr(model, 'module', model)
    state = bare.state_dict()
    checkpoint = dict(meta=dict(epoch=1, iter=8, cfg='a = 1'), state_dict=state)
    runner = SimpleNamespace(model=model, cfg=Config())
    hook.before_save_checkpoint(runner, checkpoint)
    return hook._backbone, checkpoint


def test_wrapped_model():
    model = LineWithBackbone()
    (tensors, metadata), checkpoint = saved_by(nn.DataParallel(model))
    assert torch.equal(tensors['weight'], model.backbone.weight)
    assert metadata['method'] == 'LineWithBackbone'
    assert checkpoint['meta']['backbone_prefix'] == 'backbone.'


def test_no_backbone_of_a_tokenizer_or_of_nothing(make_runner, tmp_path):
    network = dict(type='DiscreteVAENet', stride=4, vocab_size=8, width=8, code_dims=4)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        trainer = MODELS.build(dict(type='DiscreteVAETrainer', backbone=network))
    for model in (trainer, Line()):
        backbone, checkpoint = saved_by(model)
        assert backbone is None
        assert 'backbone_prefix' not in checkpoint['meta']
    make_runner().train()
    assert not list(tmp_path.glob('*.safetensors'))


def test_normalisation_of_a_segmentor():
    """mmseg's preprocessor keeps it as mmpretrain's does."""
    from mmseg.models import SegDataPreProcessor

    model = LineWithBackbone()
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    model.data_preprocessor = SegDataPreProcessor(mean=mean, std=std, bgr_to_rgb=True)
    (_, metadata), _ = saved_by(model)
    assert metadata['mean'] == '[123.675, 116.28, 103.53]'
    assert metadata['std'] == '[58.395, 57.12, 57.375]'
