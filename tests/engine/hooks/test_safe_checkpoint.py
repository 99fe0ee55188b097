# Copyright (c) mmcim contributors. All rights reserved.
"""The order of writing and removing; tools/test_train.py kills a process."""

import os
from pathlib import Path

import pytest

from mmcim.utils import atomic_write, files, load_checkpoint


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
        if str(path).endswith('.pth'):
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


def test_best_is_replaced_only_after_the_new_one_is_there(
    make_runner, events, tmp_path
):
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
