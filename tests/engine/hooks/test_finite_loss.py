# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch

from mmcim.engine import FiniteLossHook


class Diverging:
    """Wrap a model's forward pass so that its losses are not finite at one call."""

    def __init__(self, model, at, value):
        self.forward, self.at, self.value, self.calls = model.forward, at, value, 0

    def __call__(self, *args, **kwargs):
        losses = self.forward(*args, **kwargs)
        self.calls += 1
        if self.calls >= self.at:
            losses['loss_gen'] = losses['loss'] * self.value
        return losses


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_error_names_loss_iteration_rank_and_lr(make_runner, value):
    runner = make_runner([FiniteLossHook(interval=1)])
    runner.model.forward = Diverging(runner.model, at=2, value=value)
    expected = 'iteration 2, process 0' + f'.*loss_gen={value}'
    with pytest.raises(FloatingPointError, match=expected) as error:
        runner.train()
    assert 'learning rate 0.01' in str(error.value)
    assert 'optim_wrapper.clip_grad.max_norm' in str(error.value)
    assert 'float32' not in str(error.value)  # which it is in


def test_diverged_weights_replace_no_checkpoint(make_runner, tmp_path):
    """The interval is longer than the run."""
    runner = make_runner([FiniteLossHook(interval=50)])
    runner.model.forward = Diverging(runner.model, at=4, value=math.nan)
    with pytest.raises(FloatingPointError, match='line.weight is not finite'):
        runner.train()
    assert [p.name for p in tmp_path.glob('*.pth')] == ['epoch_1.pth']


def test_losses_are_checked_at_interval_only(make_runner):
    """A check synchronises with the device and has to be rare."""
    looks = []

    class Watched(torch.Tensor):
        def __float__(self):
            looks.append(float(self.as_subclass(torch.Tensor)))
            return looks[-1]

    hook = FiniteLossHook(interval=3)
    runner = make_runner([])
    runner.train_loop  # noqa: B018 - builds the loop that counts the iterations
    for i in range(6):
        runner.train_loop._iter = i
        hook.after_train_iter(runner, i, outputs=dict(loss=_watched(Watched, i)))
    assert looks == [2.0, 5.0]


def _watched(cls, value):
    return torch.tensor(float(value)).as_subclass(cls)


def test_finite_losses_pass(make_runner, tmp_path):
    make_runner([FiniteLossHook(interval=1)]).train()
    assert (tmp_path / 'epoch_2.pth').is_file()
