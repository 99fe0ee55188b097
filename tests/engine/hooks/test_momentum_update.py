# Copyright (c) mmcim contributors. All rights reserved.
"""EMA steps of real runs against the closed form."""

import math

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mmcim.engine import MomentumUpdateHook
from mmcim.models.layers import MomentumEncoder


class Followed(BaseModel):
    """A linear function with a momentum copy."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.momentum_encoder = MomentumEncoder(self, ('line',), momentum=0.6)

    def forward(self, inputs, target, mode):
        return dict(loss=(self.line(inputs) - target).square().mean())


class Watch(Hook):
    """The weights after each iteration, and what is logged."""

    priority = 'LOWEST'

    def __init__(self):
        self.source, self.copy, self.logged = [], [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.source.append(runner.model.line.weight.item())
        self.copy.append(runner.model.momentum_encoder.line.weight.item())
        scalars = runner.message_hub.log_scalars
        if 'train/momentum' in scalars:
            self.logged.append(scalars['train/momentum'].current())


def train(make_runner, counts=1, epochs=4, **kwargs):
    """Eight numbers in batches of four: two iterations per epoch."""
    watch = Watch()
    runner = make_runner(
        [watch],
        model=Followed(),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.01), accumulative_counts=counts
        ),
        **kwargs,
    )
    start = runner.model.line.weight.item()
    runner.train()
    return runner, watch, start


def closed_form(start, sources, num_steps, first=0):
    """The average after each optimizer step, and its momenta."""
    averages, momenta, average = [], [], start
    for k, source in enumerate(sources, start=first):
        m = 1 - 0.4 * (1 + math.cos(math.pi * k / num_steps)) / 2
        average = m * average + (1 - m) * source
        averages.append(average)
        momenta.append(m)
    return averages, momenta


def test_one_update_per_optimizer_step(make_runner):
    runner, watch, start = train(make_runner)
    averages, momenta = closed_form(start, watch.source, num_steps=8)
    assert watch.copy == pytest.approx(averages, rel=1e-5)
    assert watch.logged == pytest.approx(momenta)


@pytest.mark.parametrize('counts', [2, 3])
def test_one_update_per_accumulated_batch(make_runner, counts):
    """The last two of 8 iterations also make a step, though it needs three."""
    runner, watch, start = train(make_runner, counts)
    last = {2: [1, 3, 5, 7], 3: [2, 5, 7]}[counts]
    sources = [watch.source[i] for i in last]
    averages, momenta = closed_form(start, sources, len(last))
    assert [watch.copy[i] for i in last] == pytest.approx(averages, rel=1e-5)
    changes = [i for i in range(1, 8) if watch.copy[i] != watch.copy[i - 1]]
    assert changes == [i for i in last]
    assert [*dict.fromkeys(watch.logged)] == pytest.approx(momenta)


@pytest.mark.parametrize('counts', [1, 2])
def test_updates_continue_after_resume(make_runner, tmp_path, counts):
    _, watch, _ = train(make_runner, counts, work_dir=tmp_path / 'a')
    torch.manual_seed(5)
    _, rest, _ = train(
        make_runner,
        counts,
        work_dir=tmp_path / 'b',
        load_from=str(tmp_path / 'a/epoch_2.pth'),
        resume=True,
    )
    assert len(rest.copy) == 4
    assert rest.copy == watch.copy[4:]
    logged = len(rest.logged)
    assert rest.logged == watch.logged[-logged:]


def test_runner_adds_hook_for_momentum_encoders_only(make_runner):
    for model, count in ((Followed(), 1), (None, 0)):
        hooks = make_runner(model=model).hooks
        assert sum(isinstance(hook, MomentumUpdateHook) for hook in hooks) == count
