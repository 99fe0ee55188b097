# Copyright (c) mmcim contributors. All rights reserved.
"""Averaged weights move once per step of the optimizer."""

import pytest
from mmengine.registry import HOOKS, DefaultScope

import mmcim  # noqa: F401


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
@pytest.mark.parametrize('counts', [1, 2, 4])
def test_iterations_that_accumulate_do_not_count(make_runner, scope, counts):
    with DefaultScope.overwrite_default_scope(scope):
        hook = HOOKS.build(dict(type='EMAHook', momentum=0.1))
    optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=counts)
    runner = make_runner([hook], optim_wrapper=optim_wrapper)  # of four iterations
    runner.train()
    assert runner.iter == 4
    assert hook.ema_model.steps == 4 // counts
