# Copyright (c) mmcim contributors. All rights reserved.
"""What is compared on resume; exact resume is in tests/engine/test_runner.py."""

import pytest
import torch
from torch import nn

from mmcim.checkpoints import load_checkpoint
from mmcim.engine import RunStateHook
from mmcim.models.tokenizers.base import BaseTokenizer
from mmcim.utils import ConfigError

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
    assert state == dict(
        world_size=1,
        batch_size=4,
        accumulative_counts=2,
        tokenizers={
            'tokenizer': dict(type='Table', source='a.safetensors', sha256='abc')
        },
    )


def _only(path, key):
    value = load_checkpoint(path)['meta'][key]
    torch.save(value, path.with_suffix('.part'))
    return path.with_suffix('.part')


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
    # The same effective batch of more iterations: schedules would not fit.
    with pytest.raises(ConfigError, match='Keep accumulative_counts'):
        make_runner(
            [RunStateHook()],
            batch_size=2,
            train_cfg=EPOCHS,
            resume=True,
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2
            ),
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
    """With the same effective batch it is a warning."""
    make_runner([RunStateHook()], train_cfg=ONE_EPOCH, batch_size=4).train()
    file = tmp_path / 'epoch_1.pth'
    checkpoint = load_checkpoint(file)
    checkpoint['meta']['run_state'].update(world_size=2, batch_size=2)
    torch.save(checkpoint, file)
    again = make_runner([RunStateHook()], train_cfg=EPOCHS, resume=True)
    warnings = []
    monkeypatch.setattr(again.logger, 'warning', lambda text, *_: warnings.append(text))
    again.train()
    assert any('Resuming a run of 2 process(es) with 1' in text for text in warnings)
