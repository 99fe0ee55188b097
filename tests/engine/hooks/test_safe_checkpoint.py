# Copyright (c) mmcim contributors. All rights reserved.
"""The order of writing and removing; cli/test_train.py kills a process."""

import datetime
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel

from mmcim.checkpoints import load_checkpoint
from mmcim.engine.hooks.safe_checkpoint import (
    AtomicLocalBackend,
    SafeCheckpointHook,
    to_plain,
)
from mmcim.utils import ConfigError, atomic_write, files
from tests.engine.conftest import Line


def hook(**kwargs):
    return dict(type='SafeCheckpointHook', interval=1, **kwargs)


def test_checkpoint_is_written_before_old_one_is_removed(make_runner, events):
    make_runner(
        checkpoint=hook(max_keep_ckpts=2), train_cfg=dict(by_epoch=True, max_epochs=4)
    ).train()
    assert events == [
        *['+epoch_1.pth'],
        *['+epoch_2.pth'],
        *['+epoch_3.pth', '-epoch_1.pth'],
        *['+epoch_4.pth', '-epoch_2.pth'],
    ]


def test_best_checkpoint_is_written_before_old_best_is_removed(
    make_runner, events, tmp_path
):
    runner = make_runner(
        checkpoint=hook(max_keep_ckpts=1, save_best='score', rule='greater'),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        scores=[0.1, 0.3, 0.2, 0.5],
    )
    runner.train()
    assert events == [
        *['+epoch_1.pth'],
        *['+best_score_epoch_1.pth', '+epoch_1.pth'],
        *['+epoch_2.pth', '-epoch_1.pth'],
        *['+best_score_epoch_2.pth', '+epoch_2.pth'],
        '-best_score_epoch_1.pth',
        # The third epoch is no better.
        *['+epoch_3.pth', '-epoch_2.pth'],
        *['+epoch_4.pth', '-epoch_3.pth'],
        *['+best_score_epoch_4.pth', '+epoch_4.pth'],
        '-best_score_epoch_2.pth',
    ]
    info = load_checkpoint(tmp_path / 'epoch_4.pth')['message_hub']['runtime_info']
    assert info['best_score'] == 0.5
    assert info['best_ckpt'] == str(tmp_path / 'best_score_epoch_4.pth')
    assert info['keep_ckpt_ids'] == [4]


def test_best_score_survives_resume(make_runner, tmp_path):
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


def test_interval_counts_iterations(make_runner, events):
    checkpoint = dict(
        type='SafeCheckpointHook', interval=2, by_epoch=False, max_keep_ckpts=1
    )
    make_runner(
        checkpoint=checkpoint, train_cfg=dict(by_epoch=False, max_iters=4)
    ).train()
    assert events == [
        *['+iter_2.pth'],
        *['+iter_4.pth', '-iter_2.pth'],
    ]


def test_failed_write_keeps_previous_checkpoint(make_runner, monkeypatch, tmp_path):
    """For example a full disk, when the only checkpoint would be removed."""
    fsync = os.fsync

    def full(fd):
        if 'epoch_2.pth' in os.readlink(f'/proc/self/fd/{fd}'):
            raise OSError(28, 'No space left on device')
        fsync(fd)

    monkeypatch.setattr(files.os, 'fsync', full)
    path = tmp_path / 'epoch_2.pth'
    with pytest.raises(ConfigError, match=f'cannot write {path}: No space.*--resume'):
        make_runner(checkpoint=hook(max_keep_ckpts=1)).train()
    left = {p.name for p in tmp_path.iterdir() if p.is_file()}
    assert {n for n in left if not n.endswith('.py')} == {
        '.run.lock',
        'epoch_1.pth',
        'events.jsonl',
        'last_checkpoint',
    }
    assert load_checkpoint(tmp_path / 'epoch_1.pth')['meta']['epoch'] == 1
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    monkeypatch.undo()  # there is space
    make_runner(checkpoint=hook(max_keep_ckpts=1), resume=True).train()
    assert [p.name for p in tmp_path.glob('*.pth')] == ['epoch_2.pth']


def test_stale_temporary_files_are_removed(make_runner, tmp_path):
    stale = tmp_path / '.epoch_7.pth.4711.tmp'
    others = [tmp_path / name for name in ('notes.tmp', '.hidden', '.a.tmp', 'x.1.tmp')]
    for path in [stale, *others]:
        path.write_text('')
    make_runner().train()
    assert not stale.exists()
    assert all(path.exists() for path in others)


def test_other_backends_are_refused(make_runner):
    with pytest.raises(TypeError, match='argument .*backend_args'):
        make_runner(checkpoint=hook(backend_args=dict(backend='petrel')))


def test_atomic_write_is_all_or_nothing(tmp_path):
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
# Plain values


PLAIN = (int, float, bool, str, type(None), torch.Tensor)


def objects(value):
    """List values of nested dicts and lists that are not tensors, numbers or strings."""
    if isinstance(value, dict):
        return [*objects(list(value)), *objects(list(value.values()))]
    if type(value) in (list, tuple):
        return [found for item in value for found in objects(item)]
    return [] if type(value) in (*PLAIN, torch.nn.Parameter) else [value]


class Named(Line):
    """Metadata of the dataset and a metric have numpy values."""

    dataset_meta = dict(classes=('a', 'b'), palette=np.array([[1, 2], [3, 4]]))


SCHEDULES = [
    dict(type='LinearLR', start_factor=np.float64(0.1), end=1),
    dict(type='OneCycleLR', eta_max=0.1, total_steps=4, by_epoch=False),
]


@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda config: config['type'])
def test_checkpoint_contains_plain_values_only(make_runner, tmp_path, schedule):
    """torch reads it without any list of allowed classes."""
    runner = make_runner(
        checkpoint=hook(save_best='score', rule='greater'),
        scores=[np.float32(0.1), np.float64(0.3)],
        param_scheduler=[dict(schedule)],
    )
    runner.train_dataloader.dataset.metainfo = Named.dataset_meta
    runner.message_hub.update_info('seen', np.int64(3))
    runner.train()
    for path in tmp_path.glob('*.pth'):
        assert objects(torch.load(path, weights_only=True)) == []
    assert len([*tmp_path.glob('*.pth')]) == 3
    content = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    meta = content['meta']['dataset_meta']
    assert meta['classes'] == ('a', 'b') and meta['palette'].tolist() == [[1, 2], [3, 4]]
    resumed = make_runner(
        checkpoint=hook(save_best='score', rule='greater'),
        scores=[0.1, 0.3],
        param_scheduler=[dict(schedule)],
        resume=True,
    )
    resumed.train_dataloader.dataset.metainfo = Named.dataset_meta
    resumed.train()  # nothing is left to do
    for old, new in zip(runner.param_schedulers, resumed.param_schedulers):
        assert to_plain(new.state_dict()) == to_plain(old.state_dict())


def test_to_plain():
    history = HistoryBuffer([0.5, 0.25], [1, 2])
    given = dict(a=[np.float32(0.5), (np.int64(2), 'x')], b=None, c=history, d={3: True})
    found = to_plain(given | dict(function=print))
    assert objects(found) == []
    log = found.pop('c')
    assert found == dict(a=[0.5, (2, 'x')], b=None, d={3: True})
    assert log['log'].tolist() == [0.5, 0.25] and log['count'].tolist() == [1, 2]


def test_log_history_survives_resume(make_runner, tmp_path):
    first = make_runner(checkpoint=hook())
    first.train()
    assert 'train/loss' in first.message_hub.log_scalars
    second = make_runner(checkpoint=hook(), resume=True)
    second.train()  # nothing is left to do
    before, after = (r.message_hub.log_scalars for r in (first, second))
    assert before.keys() == after.keys()
    for name, history in before.items():
        assert isinstance(after[name], HistoryBuffer)
        for old, new in zip(history.data, after[name].data):
            assert old.dtype == new.dtype and old.tolist() == new.tolist()
        for statistic in ('mean', 'current', 'min', 'max'):
            assert after[name].statistics(statistic) == history.statistics(statistic)
    after['train/loss'].update(1.0)
    assert len(after['train/loss'].data[0]) == len(before['train/loss'].data[0]) + 1
    assert second.iter == first.iter


def test_plain_mmseg_opens_checkpoint(make_runner, tmp_path):
    """``mmseg.apis.init_model`` reads with torch's defaults."""
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmseg.apis import init_model
    from mmseg.registry import MODELS

    backbone = dict(
        type='mmpretrain.VisionTransformer', img_size=32, patch_size=8,
        out_type='featmap', arch=dict(
            embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32
        ),
    )  # fmt: skip
    decoder = dict(
        type='FCNHead', in_channels=16, in_index=-1, channels=16, num_convs=0,
        concat_input=False, num_classes=2,
    )  # fmt: skip
    config = dict(
        type='EncoderDecoder', backbone=backbone, decode_head=decoder, train_cfg={},
        test_cfg=dict(mode='whole'),
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = MODELS.build(config)

    class Trained(BaseModel):
        """Returns the segmentor's tensors with a dummy loss."""

        def __init__(self):
            super().__init__()
            self.backbone = segmentor.backbone
            self.decode_head = segmentor.decode_head

        def forward(self, inputs, target, mode):
            return dict(loss=sum(w.sum() for w in self.parameters()) * 1e-3)

    runner = make_runner(
        model=Trained(), checkpoint=hook(), train_cfg=dict(by_epoch=True, max_epochs=1)
    )
    runner.train_dataloader.dataset.metainfo = dict(classes=('road', 'sky'))
    runner.train()
    cfg = Config(dict(model=config, default_scope='mmseg'))
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = init_model(cfg, str(tmp_path / 'epoch_1.pth'), device='cpu')
    assert model.dataset_meta['classes'] == ('road', 'sky')
    for name, value in runner.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_smaller_max_keep_ckpts_after_resume(make_runner, events):
    """The oldest of three is removed at once, the next one after the next save."""
    make_runner(
        checkpoint=hook(max_keep_ckpts=3), train_cfg=dict(by_epoch=True, max_epochs=3)
    ).train()
    events.clear()
    make_runner(
        checkpoint=hook(max_keep_ckpts=2),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        resume=True,
        override=True,
    ).train()
    assert events == [
        '-epoch_1.pth',
        *['+epoch_4.pth', '-epoch_2.pth'],
    ]


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (np.array(['a', 'b']), ['a', 'b']),
        (Path('data/x'), 'data/x'),
        (datetime.date(2026, 1, 2), '2026-01-02'),
    ],
)
def test_unsupported_values_become_text(tmp_path, value, expected):
    torch.save(to_plain(dict(a=value)), tmp_path / 'a.pth')
    assert torch.load(tmp_path / 'a.pth', weights_only=True) == dict(a=expected)


def test_array_with_negative_strides(tmp_path):
    assert to_plain(np.arange(3)[::-1]).tolist() == [2, 1, 0]


def poison(runner, at):
    """Let the gradients of one step be NaN, though its loss is finite."""
    step, calls = runner.model.train_step, iter(range(1, 100))

    def train_step(data, optim_wrapper):
        weight = runner.model.line.weight
        handle = weight.register_hook(
            lambda grad: grad * float('nan') if next(calls) == at else grad
        )
        try:
            return step(data, optim_wrapper)
        finally:
            handle.remove()

    runner.model.train_step = train_step


def test_nan_weights_do_not_replace_a_good_checkpoint(make_runner, tmp_path):
    """In the iteration of the checkpoint, in which the loss is still finite."""
    run = dict(checkpoint=hook(max_keep_ckpts=1), param_scheduler=None)
    runner = make_runner(**run)
    poison(runner, at=4)
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    message = str(error.value)
    assert 'state_dict.line.weight is not finite after iteration' in message
    assert f'--resume {tmp_path}/epoch_1.pth --override' in message
    assert {p.name for p in tmp_path.glob('*.pth')} == {'epoch_1.pth'}
    # What the message advises works, and the good checkpoint is not removed before.
    lower = dict(optimizer=dict(type='SGD', lr=0.001))
    make_runner(**run, resume=True, override=True, optim_wrapper=lower).train()
    weights = load_checkpoint(tmp_path / 'epoch_2.pth')['state_dict']
    assert all(value.isfinite().all() for value in weights.values())


class Killed(BaseException):
    """Stands for SIGKILL: nothing in mmengine or mmcim catches it."""


@pytest.mark.parametrize('name', ['out_dir', 'create_symlink'])
def test_arguments_that_nothing_reads_are_refused(name):
    with pytest.raises(ValueError, match=f'no argument {name}'):
        SafeCheckpointHook(interval=1, **{name: 'elsewhere'})


@pytest.mark.parametrize('by_epoch', [True, False])
def test_validation_that_a_kill_prevented_is_made_up(make_runner, tmp_path, by_epoch):
    """Also that of a finished training; one that has been done is not repeated."""
    length = dict(max_epochs=2) if by_epoch else dict(max_iters=4, val_interval=2)
    best = hook(save_best='score', rule='greater', by_epoch=by_epoch)
    best['interval'] = 1 if by_epoch else 2
    run = dict(checkpoint=best, train_cfg=dict(by_epoch=by_epoch, **length))
    for validation in (1, 2):
        first = make_runner(**run, scores=[0.5], resume=validation == 2)
        first.train_loop  # noqa: B018 - builds it
        first.val_loop.run = raise_killed
        with pytest.raises(Killed):
            first.train()
        assert len([*tmp_path.glob('best*')]) == validation - 1
        scores = [0.1 * validation]
        second = make_runner(**run, scores=scores, resume=True)
        if validation == 1:
            second.train_loop.run_iter = raise_killed
            with pytest.raises(Killed):
                second.train()
        else:
            second.train()
        step = 'epoch_{}' if by_epoch else 'iter_{}'
        (found,) = tmp_path.glob('best*')
        step = step.format(validation if by_epoch else 2 * validation)
        assert found.name == f'best_score_{step}.pth'
    third = make_runner(**run, scores=[0.5], resume=True)
    third.train_loop  # noqa: B018 - builds it
    third.val_loop.run = raise_killed
    third.train()  # which does not validate


def raise_killed(*args, **kwargs):
    raise Killed


def test_surplus_checkpoints_of_a_kill_are_removed(make_runner, tmp_path, monkeypatch):
    run = dict(checkpoint=hook(max_keep_ckpts=1))
    runner = make_runner(**run)
    with monkeypatch.context() as patch:
        target = 'mmcim.engine.hooks.SafeCheckpointHook._remove_outdated'
        later = lambda self, runner: raise_killed() if runner.epoch else None  # noqa: E731
        patch.setattr(target, later)
        with pytest.raises(Killed):
            runner.train()
    AtomicLocalBackend.outdated.clear()  # the next process knows nothing of it
    (tmp_path / 'epoch_0.pth').write_bytes(b'')  # not of this run, and not its to remove
    assert {p.name for p in tmp_path.glob('*_[12].pth')} == {'epoch_1.pth', 'epoch_2.pth'}
    make_runner(**run, resume=True).train()
    assert {p.name for p in tmp_path.glob('*.pth')} == {'epoch_0.pth', 'epoch_2.pth'}
