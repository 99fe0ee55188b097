# Copyright (c) mmcim contributors. All rights reserved.
"""The Siamese baselines compare images of all processes: two match one."""

from functools import partial

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from .siamese_models import CONFIGS
from .test_baselines import build
from .two_processes import assert_two_match_one

# Norms over four images enlarge rounding from step to step.
OPTIM = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-4))


def network(name):
    """The crops are augmented already."""
    preprocessor = dict(type='BaseDataPreprocessor')
    return build(CONFIGS[name] | dict(data_preprocessor=preprocessor))


def steps(model, part, num=5):
    plain = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(plain, OPTIM)
    random = torch.Generator().manual_seed(1)
    images, second = torch.randn(2, 4, 3, 64, 64, generator=random)
    local = torch.randn(4, 2, 3, 32, 32, generator=random)  # of SwAV
    for step in range(num):
        inputs = dict(
            images=images[part], second_crops=second[part], local_crops=local[part]
        )
        model.train_step(dict(inputs=inputs), optim)
        if hasattr(plain, 'momentum_encoder'):
            plain.momentum_encoder.update(plain, step, num_steps=10)


@pytest.mark.parametrize('name', ['simclr', 'barlowtwins', 'mocov2', 'swav'])
def test_two_processes_match_one(name, tmp_path):
    """MoCo v2's norms are those of one process in its recipe, here of both.

    SwAV's local crops end as one pixel, of which norms enlarge rounding.
    """
    atol = 5e-5 if name == 'swav' else 2e-6
    start, end = assert_two_match_one(partial(network, name), steps, tmp_path, atol)
    assert not any(end[k].equal(start[k]) for k in end if k.endswith('conv1.weight'))
