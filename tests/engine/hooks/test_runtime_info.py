# Copyright (c) mmcim contributors. All rights reserved.
import pytest
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import MessageHub

from mmcim.checkpoints import load_checkpoint
from mmcim.engine.hooks import DeferredInfoHook

LONG = dict(by_epoch=True, max_epochs=12)  # 24 iterations; a line after 10 and 20


def history(runner, name='train/loss'):
    return runner.message_hub.get_scalar(name).data[0].tolist()


@pytest.fixture
def run(make_runner, tmp_path):
    def train(name, hook, **kwargs):
        runner = make_runner(
            work_dir=tmp_path / name,
            train_cfg=dict(LONG),
            runtime_info=dict(type=hook),
            optim_wrapper=dict(
                type='AutoAmpOptimWrapper',
                optimizer=dict(type='SGD', lr=0.01),
                clip_grad=dict(max_norm=0.1),
            ),
            **kwargs,
        )
        runner.train()
        return runner

    return train


def test_history_is_that_of_mmengine(run):
    deferred, immediate = run('a', DeferredInfoHook), run('b', RuntimeInfoHook)
    assert history(deferred) == history(immediate) and len(history(deferred)) == 24
    # Those are read by this hook alone.
    assert len(history(deferred, 'train/grad_norm')) == 24


def test_values_are_read_at_the_logging_interval_alone(run, monkeypatch):
    read = []
    update = MessageHub.update_scalar

    def noted(hub, name, value, *args):
        if name in ('train/loss', 'train/grad_norm'):
            assert isinstance(value, float)  # a tensor would be read by the hub
            read.append(hub.get_info('iter') + 1)
        update(hub, name, value, *args)

    monkeypatch.setattr(MessageHub, 'update_scalar', noted)
    run('a', DeferredInfoHook, checkpoint=dict(type='SafeCheckpointHook', interval=20))
    assert read == [1] * 2 + [10] * 18 + [20] * 20 + [24] * 8


def test_checkpoint_has_the_whole_history(run, tmp_path):
    run('a', DeferredInfoHook)
    hub = load_checkpoint(str(tmp_path / 'a/epoch_10.pth'))['message_hub']
    assert len(hub['log_scalars']['train/loss']['log']) == 20
    hub = load_checkpoint(str(tmp_path / 'a/epoch_12.pth'))['message_hub']
    assert len(hub['log_scalars']['train/loss']['log']) == 24
