# Copyright (c) mmcim contributors. All rights reserved.
"""MoCo v3 contrasts images of all processes: two match one."""

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from .test_baselines import build, mocov3
from .two_processes import assert_two_match_one

OPTIM = dict(
    type='AutoAmpOptimWrapper',
    precision='float32',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05),
)
# The crops are augmented already.
CONFIG = mocov3() | dict(data_preprocessor=dict(type='BaseDataPreprocessor'))


def network():
    """A tiny initial class token would have a huge gradient."""
    model = build(CONFIG)
    torch.nn.init.normal_(model.backbone.cls_token)
    model.momentum_encoder.copy_from(model)
    return model


def steps(model, part, num=3):
    plain = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(plain, OPTIM)
    images, second = torch.randn(
        2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)
    )
    for step in range(num):
        inputs = dict(images=images[part], second_crops=second[part])
        model.train_step(dict(inputs=inputs), optim)
        plain.momentum_encoder.update(plain, step, num_steps=10)


def test_two_processes_match_one(tmp_path):
    # Norms over four images enlarge rounding; in float64 the two agree to 1e-14.
    start, end = assert_two_match_one(network, steps, tmp_path, atol=5e-5)
    frozen = ('pos_embed', 'projection.weight', 'projection.bias')
    for key, value in end.items():
        assert value.equal(start[key]) == key.endswith(frozen), key
