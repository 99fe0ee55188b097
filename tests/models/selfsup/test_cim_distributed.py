# Copyright (c) mmcim contributors. All rights reserved.
"""Two gloo processes take the step that one process takes with the whole batch."""

from functools import partial

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from .conftest import revdet
from .two_processes import assert_two_match_one

# Not Adam: it would amplify rounding in the gradients of key biases.
OPTIM = dict(
    type='AutoAmpOptimWrapper',
    precision='float32',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05),
    clip_grad=dict(max_norm=0.1),
)


def batch():
    """Four images."""
    torch.manual_seed(3)
    return torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)


def steps(model, part, num=3):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(getattr(model, 'module', model), OPTIM)
    data = dict(inputs=batch()[part])
    for _ in range(num):
        model.train_step(data, optim)


def build(config):
    torch.manual_seed(1)
    model = MODELS.build(config)
    model.init_weights()
    return model


@pytest.mark.parametrize('objective', ['respix', 'revdet'])
def test_two_processes_match_one(configs, tmp_path, objective):
    if objective == 'revdet':
        configs['enhancer'] = revdet()
    # Fixed masks and samples: the likeliest tokens, no flips.
    generator = {**configs['generator'], 'sampling': 'argmax'}
    configs.update(masking=dict(type='FixedMasking'), generator=generator)
    configs['data_preprocessor']['flip_prob'] = 0
    start, end = assert_two_match_one(partial(build, configs), steps, tmp_path)
    moved = sum(not value.equal(start[key]) for key, value in end.items())
    assert moved == len(list(build(configs).parameters()))
