# Copyright (c) mmcim contributors. All rights reserved.
"""Comparing and restoring; whole resumed runs are in tests/tools/test_train.py."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from mmcim.engine import RunStateHook
from mmcim.engine.hooks import run_state
from mmcim.models.tokenizers.base import BaseTokenizer
from mmcim.utils import ConfigError, load_checkpoint, use_safe_loading

EPOCHS = dict(by_epoch=True, max_epochs=3)
ONE_EPOCH = dict(by_epoch=True, max_epochs=1)


class Table(BaseTokenizer):
    """A tokenizer in name only."""

    vocab_size, stride = 2, 1

    def __init__(self, source, sha256):
        nn.Module.__init__(self)
        self._identity = dict(type='Table', source=source, sha256=sha256)

    def _encode(self, images):
        raise NotImplementedError

    def _decode(self, ids):
        raise NotImplementedError


def with_tokenizer(line, *identity):
    line.tokenizer = Table(*identity)
    return line


@pytest.fixture
def line(make_runner):
    return lambda: type(make_runner().model)()


@pytest.fixture(autouse=True)
def safe():
    use_safe_loading()


def weights(runner):
    return [p.detach().clone() for p in runner.model.parameters()]


def test_what_is_stored(make_runner, tmp_path, line):
    model = with_tokenizer(line(), 'a.safetensors', 'abc')
    runner = make_runner(
        [RunStateHook()],
        model=model,
        train_cfg=ONE_EPOCH,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2),
    )
    runner.train()
    # Plain enough for the strictest way to load it.
    state = torch.load(_only(tmp_path / 'epoch_1.pth', 'run_state'), weights_only=True)
    rng = state.pop('rng')
    assert state == dict(
        world_size=1,
        batch_size=4,
        accumulative_counts=2,
        sampler_seed=0,
        tokenizers={
            'tokenizer': dict(type='Table', source='a.safetensors', sha256='abc')
        },
    )
    assert len(rng) == 1
    assert torch.equal(rng[0]['torch'], torch.get_rng_state())
    assert rng[0]['python'] == random.getstate()
    assert rng[0]['numpy']['keys'].tolist() == np.random.get_state()[1].tolist()


def _only(path, key):
    value = load_checkpoint(path)['meta'][key]
    torch.save(value, path.with_suffix('.part'))
    return path.with_suffix('.part')


@pytest.mark.parametrize('seed', [0, None])
def test_resumed_equals_uninterrupted(make_runner, tmp_path, seed):
    """Also without a seed, when the order of the data was drawn at random."""
    randomness = dict(seed=seed)
    straight = make_runner(
        [RunStateHook()],
        train_cfg=EPOCHS,
        randomness=dict(randomness),
        work_dir=tmp_path / 'a',
        scores=[1, 2, 3],
    )
    straight.train()
    again = make_runner(
        [RunStateHook()],
        train_cfg=EPOCHS,
        randomness=dict(randomness),
        work_dir=tmp_path / 'b',
        load_from=str(tmp_path / 'a/epoch_1.pth'),
        resume=True,
        scores=[2, 3],
    )
    again.train()
    assert again.iter == straight.iter == 6
    for a, b in zip(weights(straight), weights(again), strict=True):
        assert torch.equal(a, b)


def test_validation_does_not_change_the_training(make_runner, tmp_path):
    runs = []
    for scores in (None, [1, 2, 3]):
        runner = make_runner(
            [RunStateHook()],
            train_cfg=EPOCHS,
            scores=scores,
            work_dir=tmp_path / str(scores is None),
        )
        runner.train()
        runs.append(weights(runner))
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)


def test_iterations_go_on_with_the_generators(make_runner, tmp_path, monkeypatch):
    restored = []
    monkeypatch.setattr(run_state, 'set_rng_state', restored.append)
    checkpoint = dict(type='SafeCheckpointHook', interval=2, by_epoch=False)
    loop = dict(by_epoch=False, max_iters=4)
    make_runner([RunStateHook()], checkpoint=dict(checkpoint), train_cfg=loop).train()
    stored = load_checkpoint(tmp_path / 'iter_2.pth')['meta']['run_state']['rng'][0]
    make_runner(
        [RunStateHook()],
        checkpoint=dict(checkpoint),
        train_cfg=loop,
        load_from=str(tmp_path / 'iter_2.pth'),
        resume=True,
    ).train()
    assert len(restored) == 1
    assert torch.equal(restored[0]['torch'].cpu(), stored['torch'])


def test_another_tokenizer_is_an_error(make_runner, tmp_path, line):
    make_runner(
        [RunStateHook()],
        model=with_tokenizer(line(), 'a.safetensors', 'abc'),
        train_cfg=ONE_EPOCH,
    ).train()

    def resume(model):
        make_runner([RunStateHook()], model=model, train_cfg=EPOCHS, resume=True).train()

    with pytest.raises(ConfigError) as error:
        resume(with_tokenizer(line(), 'b.safetensors', 'def'))
    for part in ('a.safetensors, sha256 abc', 'b.safetensors, sha256 def', 'load_from'):
        assert part in str(error.value)
    with pytest.raises(ConfigError, match='config:     none'):
        resume(line())
    # The same weights in another place are the same tokenizer.
    resume(with_tokenizer(line(), '/moved/a.safetensors', 'abc'))


def test_batch(make_runner):
    make_runner([RunStateHook()], train_cfg=ONE_EPOCH).train()
    with pytest.raises(ConfigError) as error:
        make_runner([RunStateHook()], batch_size=2, train_cfg=EPOCHS, resume=True).train()
    assert 'effective batch of 4 (1 process(es) x 4 x 1 accumulated)' in str(error.value)
    assert 'this run has 2 (1 process(es) x 2 x 1 accumulated)' in str(error.value)
    # The same effective batch from smaller ones is fine.
    make_runner(
        [RunStateHook()],
        batch_size=2,
        train_cfg=EPOCHS,
        resume=True,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2),
    ).train()


@pytest.mark.parametrize(('epoch', 'lost'), [(1, 2), (2, 1), (3, 0)])
def test_gradients_that_are_lost(make_runner, tmp_path, monkeypatch, epoch, lost):
    """Two iterations make an epoch, three of them a step."""
    optim = dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=3)
    run = dict(optim_wrapper=optim, train_cfg=dict(by_epoch=True, max_epochs=4))
    make_runner([RunStateHook()], **run, work_dir=tmp_path / 'a').train()
    again = make_runner(
        [RunStateHook()],
        **run,
        work_dir=tmp_path / 'b',
        load_from=str(tmp_path / f'a/epoch_{epoch}.pth'),
        resume=True,
    )
    told = []
    monkeypatch.setattr(again.logger, 'warning', lambda text, *args: told.append(text))
    again.train()
    found = [text for text in told if 'after an optimizer step' in text]
    assert len(found) == (lost > 0)
    if lost:
        assert f'is {lost} iteration(s) after' in found[0]
        assert f'gradients of the other {3 - lost}.' in found[0]


def test_new_run_from_old_weights_compares_nothing(make_runner, tmp_path):
    make_runner([RunStateHook()], train_cfg=ONE_EPOCH, work_dir=tmp_path / 'a').train()
    make_runner(
        [RunStateHook()],
        batch_size=2,
        work_dir=tmp_path / 'b',
        load_from=str(tmp_path / 'a/epoch_1.pth'),
    ).train()


def test_changed_number_of_processes(make_runner, tmp_path, monkeypatch):
    """Without states to restore, each process still draws what it has not drawn yet."""
    make_runner([RunStateHook()], train_cfg=ONE_EPOCH, batch_size=4).train()
    file = tmp_path / 'epoch_1.pth'
    checkpoint = load_checkpoint(file)
    state = checkpoint['meta']['run_state']
    state.update(world_size=2, batch_size=2, rng=state['rng'] * 2)
    torch.save(checkpoint, file)
    seeds = []
    monkeypatch.setattr(
        run_state, 'set_random_seed', lambda seed, **kwargs: seeds.append(seed)
    )
    runner = make_runner(
        [RunStateHook()],
        train_cfg=dict(by_epoch=True, max_epochs=2),
        resume=True,
        load_from=str(file),
    )
    runner.train()
    # Run seed 0, and two iterations done.
    assert seeds == [2]


def test_distributed_needs_all_processes_at_saving(make_runner, monkeypatch):
    monkeypatch.setattr(run_state, 'is_distributed', lambda: True)
    runner = make_runner([RunStateHook()], checkpoint=dict(type='CheckpointHook'))
    with pytest.raises(ConfigError, match='SafeCheckpointHook'):
        runner.train()
