# Copyright (c) mmcim contributors. All rights reserved.
"""A run that gets a signal leaves a checkpoint; of processes in tests/cli."""

import os
import signal
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from torch import distributed as dist

from mmcim.checkpoints import load_checkpoint
from mmcim.engine import interruption
from mmcim.engine.interruption import InterruptionHook

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
LOOPS = dict(
    epochs=dict(train_cfg=dict(by_epoch=True, max_epochs=3)),
    iterations=dict(
        train_cfg=dict(by_epoch=False, max_iters=12), sampler='InfiniteSampler'
    ),
)
CHECKPOINT = dict(
    epochs=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=1),
    iterations=dict(
        type='SafeCheckpointHook', interval=4, by_epoch=False, max_keep_ckpts=1
    ),
)


class Signal(Hook):
    """Sends a signal to this process in an iteration, in a thread's words at once."""

    def __init__(self, number, iteration, where='before_train_iter'):
        def send(runner, *args, **kwargs):
            if runner.iter == iteration:
                os.kill(os.getpid(), number)

        setattr(self, where, send)


@pytest.fixture
def train(make_runner):
    def run(loop, work_dir, **kwargs):
        runner = make_runner(
            checkpoint=dict(CHECKPOINT[loop]),
            work_dir=work_dir,
            batch_size=2,
            **{k: v.copy() if k == 'train_cfg' else v for k, v in LOOPS[loop].items()},
            **kwargs,
        )
        runner.train()
        return [p.detach().clone() for p in runner.model.parameters()]

    return run


def files(folder):
    return {path.name for path in folder.glob('*.pth')}


@pytest.mark.parametrize('iteration', [1, 3, 5, 11])
@pytest.mark.parametrize('loop', LOOPS)
def test_exact_resume_after_a_signal(train, tmp_path, loop, iteration):
    """Within an epoch of four iterations, at its end, and in the last iteration."""
    expected = train(loop, tmp_path / 'whole')
    number = SIGNALS[iteration % 3]
    before = [signal.getsignal(n) for n in SIGNALS]
    with pytest.raises(SystemExit) as error:
        train(loop, tmp_path / 'cut', hooks=[Signal(number, iteration)])
    assert error.value.code == 128 + number
    assert before == [signal.getsignal(n) for n in SIGNALS]
    last = (tmp_path / 'cut/last_checkpoint').read_text()
    assert load_checkpoint(last)['meta']['iter'] == iteration + 1
    again = train(loop, tmp_path / 'cut', resume=True)
    for a, b in zip(expected, again, strict=True):
        assert torch.equal(a, b)
    assert files(tmp_path / 'cut') == files(tmp_path / 'whole')


def test_no_step_is_cut(train, tmp_path):
    """Gradients of accumulated batches are not saved."""
    wrapper = dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2)
    with pytest.raises(SystemExit):
        train('epochs', tmp_path, hooks=[Signal(15, 4)], optim_wrapper=wrapper)
    assert load_checkpoint(tmp_path / 'interrupted.pth')['meta']['iter'] == 6


def test_validation_is_left(train, tmp_path):
    """The checkpoint of its epoch is the one to resume from; it is not saved again."""
    hook = Signal(signal.SIGTERM, 4, 'before_val_iter')
    with pytest.raises(SystemExit) as error:
        train('epochs', tmp_path, hooks=[hook], scores=[1, 2, 3])
    assert error.value.code == 143
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    assert 'interrupted.pth' not in files(tmp_path)


def test_other_processes_leave_a_validation_after_the_main_one(monkeypatch):
    """Without its mark they go on: it may have got no signal, or be in a collective."""
    monkeypatch.setattr(interruption, 'is_main_process', lambda: False)
    hook = InterruptionHook()
    hook.received, hook._store = 15, dist.HashStore()
    hook._patience = timedelta(milliseconds=50)
    runner = SimpleNamespace(
        iter=4, optim_wrapper=SimpleNamespace(_accumulative_counts=2)
    )
    hook.after_val_iter(runner)
    hook._store.set(interruption._LEFT, '')
    runner.iter = 5  # the next step of the optimizer lacks gradients
    hook.after_val_iter(runner)
    runner.iter = 6
    with pytest.raises(SystemExit) as error:
        hook.after_val_iter(runner)
    assert error.value.code == 143


def test_signal_before_training_ends_it_at_once(train, tmp_path):
    with pytest.raises(SystemExit) as error:
        train('epochs', tmp_path, hooks=[Signal(signal.SIGTERM, 0, 'before_run')])
    assert error.value.code == 143
    assert not list(tmp_path.glob('*.pth'))


def test_training_in_a_thread(train, tmp_path):
    """Only the main thread may handle signals."""
    found = []
    thread = threading.Thread(target=lambda: found.append(train('epochs', tmp_path)))
    thread.start()
    thread.join()
    assert len(found) == 1


def test_timeout_of_loaders_is_that_of_processes(make_runner, tmp_path):
    runner = make_runner(
        workers=dict(num_workers=1), env_cfg=dict(dist_cfg=dict(timeout=7))
    )
    assert runner.train_dataloader.timeout == 7
    assert (
        make_runner(env_cfg=dict(dist_cfg=dict(timeout=7))).train_dataloader.timeout == 0
    )
