# Copyright (c) mmcim contributors. All rights reserved.
"""A work directory has one owner and holds one run."""

import multiprocessing
import os
import re
import socket

import pytest

from mmcim.engine import work_dir as module
from mmcim.engine.work_dir import find_start, own
from mmcim.utils import ConfigError

HOST = socket.gethostname()


@pytest.fixture
def other(tmp_path):
    """A process that owns a folder until it is killed."""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe()

    def hold():
        with own(str(tmp_path)):
            theirs.send(1)
            theirs.recv()

    process = context.Process(target=hold, daemon=True)
    process.start()
    ours.recv()
    yield process
    process.kill()
    process.join()


def test_second_owner_is_refused(tmp_path, other):
    text = rf'in use by another run \(host {HOST}, process {other.pid}, since 20\d\d-.*:'
    with pytest.raises(ConfigError, match=text) as error, own(str(tmp_path)):
        pass
    assert '--work-dir' in str(error.value)


def test_lock_of_a_dead_process_is_taken_over(tmp_path, other):
    other.kill()
    other.join()
    lock = tmp_path / '.run.lock'
    assert f'process {other.pid}' in lock.read_text()
    with own(str(tmp_path)):
        assert lock.read_text().startswith(f'host {HOST}, process {os.getpid()}, since ')
    assert lock.read_text() == ''


def test_lock_of_another_host_says_how_to_remove_it(tmp_path):
    lock = tmp_path / '.run.lock'
    lock.write_text('host elsewhere, process 7, since 2026-01-01 00:00:00')
    text = rf'host elsewhere, process 7.*If its host has died, remove {lock}'
    with pytest.raises(ConfigError, match=text), own(str(tmp_path)):
        pass
    assert lock.read_text().startswith('host elsewhere')


def test_file_system_without_locks(tmp_path, monkeypatch):
    """The text alone decides then."""

    def lockf(*_):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(module.fcntl, 'lockf', lockf)
    with own(str(tmp_path)), pytest.raises(ConfigError), own(str(tmp_path)):
        pass
    with own(str(tmp_path)):
        pass


@pytest.mark.parametrize(
    ('there', 'load_from', 'resume', 'expected'),
    [
        ([], None, False, None),
        ([], None, True, None),  # as quickstart --resume does
        ([], 'weights.pth', False, 'weights.pth'),
        ([], 'elsewhere/epoch_1.pth', True, 'elsewhere/epoch_1.pth'),
        (['best_top1_epoch_2.pth', 'mine.pth'], None, False, None),
        (['epoch_1.pth'], None, False, 'has checkpoints .* such as epoch_1.pth'),
        (['epoch_1.pth'], 'weights.pth', False, 'has checkpoints'),
        (['epoch_1.pth'], 'elsewhere/epoch_1.pth', True, 'has checkpoints'),
        (['interrupted.pth'], None, False, 'has checkpoints'),
        (['epoch_1.pth', 'epoch_2.pth'], 'epoch_1.pth', True, 'epoch_1.pth'),
        (['epoch_1.pth', 'epoch_2.pth', 'last'], None, True, 'epoch_1.pth'),
        # Killed before last_checkpoint was written.
        (['epoch_1.pth', 'epoch_2.pth'], None, True, 'epoch_2.pth'),
    ],
)
def test_starts_are_told_apart(tmp_path, monkeypatch, there, load_from, resume, expected):
    monkeypatch.chdir(tmp_path)
    for time, name in enumerate(there):
        path = tmp_path / name.replace('last', 'last_checkpoint')
        path.write_text('epoch_1.pth')
        os.utime(path, (time, time))
    if expected and ' ' in expected or expected == 'has checkpoints':
        with pytest.raises(ConfigError, match=expected):
            find_start('.', load_from, resume)
    else:
        found = find_start('.', load_from, resume)
        assert (found and re.sub(r'^\./', '', found)) == expected


NOTES = dict(
    missing=(b'/nowhere/epoch_9.pth', r"'/nowhere/epoch_9.pth', which is not there"),
    text=(b'line 1\nline 2' * 50, r"names 'line 1\\nline 2"),
    binary=(bytes(range(256)), 'which is not there'),
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
