# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch

LONG = dict(by_epoch=True, max_epochs=6)  # 12 iterations; a line after 10


class Diverging:
    """Wrap a model's forward pass so that its losses are not finite from one call on."""

    def __init__(self, model, at, value):
        self.forward, self.at, self.value, self.calls = model.forward, at, value, 0

    def __call__(self, *args, **kwargs):
        losses = self.forward(*args, **kwargs)
        self.calls += 1
        if self.calls >= self.at:
            losses['loss_gen'] = losses['loss'] * self.value
        return losses


@pytest.mark.parametrize('value', [math.nan, math.inf])
@pytest.mark.parametrize('at', [1, 10])
def test_error_names_loss_iteration_rank_and_lr(make_runner, value, at):
    runner = make_runner(train_cfg=LONG)
    runner.model.forward = Diverging(runner.model, at, value)
    expected = f'iteration {at}, process 0.*loss_gen={value}'
    with pytest.raises(FloatingPointError, match=expected) as error:
        runner.train()
    assert 'learning rate 0.01' in str(error.value)
    assert 'optim_wrapper.clip_grad.max_norm' in str(error.value)
    assert 'float32' not in str(error.value)  # which it is in


def test_diverged_weights_replace_no_checkpoint(make_runner, tmp_path):
    """No line is due before the checkpoint."""
    runner = make_runner(train_cfg=LONG)
    runner.model.forward = Diverging(runner.model, at=4, value=math.nan)
    with pytest.raises(FloatingPointError, match='line.weight is not finite'):
        runner.train()
    assert [p.name for p in tmp_path.glob('*.pth')] == ['epoch_1.pth']


@pytest.mark.parametrize(('iteration', 'passes'), [(5, True), (10, False)])
def test_losses_are_checked_where_a_line_is_due(make_runner, iteration, passes):
    """A step without finite gradients may be skipped, which is no divergence."""
    runner = make_runner(train_cfg=LONG)
    forward = runner.model.forward

    def infinite_once(*args, **kwargs):
        losses = forward(*args, **kwargs)
        if runner.iter + 1 == iteration:
            losses['loss_gen'] = torch.tensor(math.inf)  # without a gradient
        return losses

    runner.model.forward = infinite_once
    if passes:
        runner.train()
        assert runner.iter == 12
    else:
        with pytest.raises(FloatingPointError, match='iteration 10'):
            runner.train()
