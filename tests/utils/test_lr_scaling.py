# Copyright (c) mmcim contributors. All rights reserved.
import pytest
from mmengine.config import Config

from mmcim.utils import ConfigError, effective_batch_size, scale_lr


def config(enable=True, base=256, batch=64, accumulated=2, **loader):
    return Config(
        dict(
            train_dataloader=loader or dict(batch_size=batch),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-3),
                accumulative_counts=accumulated,
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=1e-4, end=10),
                dict(type='CosineAnnealingLR', eta_min=1e-5, begin=10),
                dict(type='CosineAnnealingMomentum', eta_min=0.5),
            ],
            auto_scale_lr=dict(enable=enable, base_batch_size=base),
        )
    )


def test_accumulated_batches_and_processes_count():
    cfg = config()
    assert effective_batch_size(cfg, world_size=4) == 4 * 64 * 2
    assert scale_lr(cfg, world_size=4) == 512
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2e-3)


def test_the_shape_of_the_schedule_stays():
    """Learning rates at its ends scale, ratios and momenta do not."""
    cfg = config()
    scale_lr(cfg, world_size=4)
    linear, cosine, momentum = cfg.param_scheduler
    assert cosine.eta_min == pytest.approx(2e-5)
    assert linear.start_factor == 1e-4
    assert momentum.eta_min == 0.5


def test_mmengine_does_not_scale_again():
    cfg = config()
    scale_lr(cfg, world_size=4)
    assert cfg.auto_scale_lr.enable is False
    scale_lr(cfg, world_size=4)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2e-3)


def test_one_scheduler_that_is_not_in_a_list():
    cfg = config()
    cfg.param_scheduler = cfg.param_scheduler[1]
    scale_lr(cfg, world_size=1)
    assert cfg.param_scheduler.eta_min == pytest.approx(0.5e-5)


def test_no_scaling_unless_enabled():
    cfg = config(enable=False)
    assert scale_lr(cfg, world_size=4) == 512
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    cfg.pop('auto_scale_lr')
    assert scale_lr(cfg, world_size=4) == 512
    assert cfg.optim_wrapper.optimizer.lr == 1e-3


def test_batch_sampler():
    cfg = config(batch_sampler=dict(type='Some', batch_size=8))
    assert effective_batch_size(cfg, world_size=1) == 16


def test_base_batch_size_is_needed():
    with pytest.raises(ConfigError, match='base_batch_size'):
        scale_lr(config(base=None), world_size=1)


def test_batch_and_learning_rate_are_logged(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmcim.utils.lr_scaling.print_log',
        lambda message, logger: lines.append(message),
    )
    scale_lr(config(), world_size=4)
    assert lines == [
        'Effective batch: 512 = 4 process(es) x 64 x 2 accumulated. '
        'Learning rate: 0.002 (scaled from 0.001 at batch 256).'
    ]
