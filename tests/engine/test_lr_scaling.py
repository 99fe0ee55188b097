# Copyright (c) mmcim contributors. All rights reserved.
"""The learning rate of real runs against lr x effective batch / base batch."""

import pytest
from mmengine.optim.scheduler import CosineAnnealingLR

from mmcim.engine.lr_scaling import scaled_schedulers
from mmcim.utils import ConfigError

SCALING = dict(enable=True, base_batch_size=16)


def train(make_runner, batch_size=4, counts=2, **kwargs):
    """Eight numbers in two epochs; gives the runner and the last learning rate."""
    runner = make_runner(
        batch_size=batch_size,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01), accumulative_counts=counts
        ),
        **kwargs,
    )
    runner.train()
    return runner, runner.optim_wrapper.get_lr()['lr'][0]


@pytest.mark.parametrize(('counts', 'lr'), [(1, 0.0025), (2, 0.005)])
def test_effective_batch_includes_accumulation(make_runner, counts, lr):
    _, found = train(make_runner, counts=counts, auto_scale_lr=dict(SCALING))
    assert found == pytest.approx(lr)


def test_schedule_end_is_scaled(make_runner):
    schedule = dict(type='CosineAnnealingLR', eta_min=1e-3)
    runner, lr = train(make_runner, auto_scale_lr=dict(SCALING), param_scheduler=schedule)
    assert lr == pytest.approx((5e-3 + 0.5e-3) / 2)  # half-way, as in the last epoch
    assert runner.record['param_scheduler'][0]['eta_min'] == pytest.approx(0.5e-3)
    assert schedule['eta_min'] == 1e-3


@pytest.mark.parametrize(
    'scaling', [None, dict(base_batch_size=16), dict(SCALING, enable=False)]
)
def test_lr_is_not_scaled_by_default(make_runner, scaling):
    assert train(make_runner, auto_scale_lr=scaling)[1] == 0.01


def test_base_batch_size_is_required(make_runner):
    with pytest.raises(ConfigError, match=r'^auto_scale_lr: set base_batch_size'):
        train(make_runner, auto_scale_lr=dict(enable=True))


def test_unknown_keys_raise(make_runner):
    with pytest.raises(ConfigError, match=r"^auto_scale_lr.* argument 'enabled'"):
        train(make_runner, auto_scale_lr=dict(enabled=True, base_batch_size=16))


def test_logged_base_lr_is_scaled(make_runner):
    """With several parameter groups it has its own entry."""
    wrapper = dict(
        optimizer=dict(type='SGD', lr=0.01), paramwise_cfg=dict(bias_lr_mult=1.0)
    )
    runner = make_runner(auto_scale_lr=dict(SCALING), optim_wrapper=wrapper)
    runner.train()
    expected = dict(base_lr=[pytest.approx(0.0025)], lr=[pytest.approx(0.0025)] * 2)
    assert runner.optim_wrapper.get_lr() == expected


def test_factors_and_momenta_are_not_scaled():
    schedulers = [
        dict(type='LinearLR', start_factor=1e-4, end=10),
        dict(type=CosineAnnealingLR, eta_min=1e-5, begin=10),
        dict(type='CosineAnnealingMomentum', eta_min=0.5),
    ]
    linear, cosine, momentum = scaled_schedulers(schedulers, 2)
    assert cosine['eta_min'] == 2e-5
    assert (linear, momentum) == (schedulers[0], schedulers[2])
    assert scaled_schedulers(None, 2) is None


@pytest.mark.parametrize(
    ('kind', 'rate'),
    [
        ('CosineAnnealingLR', 'eta_min'),
        ('OneCycleLR', 'eta_max'),
        ('ReduceOnPlateauLR', 'min_value'),
    ],
)
def test_absolute_rates_in_schedulers_are_scaled(kind, rate):
    scheduler = {'type': kind, rate: 1e-5}
    assert scaled_schedulers(scheduler, 4) == {'type': kind, rate: 4e-5}
    assert scheduler[rate] == 1e-5


def test_summary_shows_batch_size_and_lr(make_runner, monkeypatch):
    runner = make_runner(batch_size=4, auto_scale_lr=dict(SCALING))
    lines = []
    monkeypatch.setattr(runner.logger, 'info', lambda text, *_: lines.append(text))
    runner.train()
    (block,) = [text for text in lines if 'Effective batch' in text]
    assert '  Effective batch: 4 = 1 process(es) x 4 x 1 accumulated\n' in block
    assert '  Learning rate: 0.0025\n' in block
    assert '  Images: 8 to train on\n' in block
    assert '  Device: cpu, float32\n' in block
    assert '  Start: from scratch, iteration 0 of 4\n' in block
