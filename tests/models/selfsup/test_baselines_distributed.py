# Copyright (c) mmcim contributors. All rights reserved.
"""MoCo v3 contrasts with the pictures of all processes: two of them equal one."""

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from .test_baselines import build, mocov3
from .two_processes import assert_two_equal_one

OPTIM = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05),
)
# Without batch statistics, which gloo cannot share, and with views made already.
CONFIG = mocov3()
for projector in (CONFIG['neck'], CONFIG['head']['predictor']):
    projector.update(norm_cfg=dict(type='LN'), with_last_bn=False)
CONFIG['data_preprocessor'] = dict(type='BaseDataPreprocessor')


def steps(model, part, num=3):
    network = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(network, OPTIM)
    images, views = torch.randn(
        2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)
    )
    for _ in range(num):
        model.train_step(dict(inputs=dict(images=images[part], views=views[part])), optim)
        network.momentum_encoder.update(network, num_steps=10)


def test_two_processes_equal_one(tmp_path):
    start, end = assert_two_equal_one(lambda: build(CONFIG), steps, tmp_path)
    frozen = ('pos_embed', 'projection.weight', 'projection.bias')
    for key, value in end.items():
        assert value.equal(start[key]) == key.endswith(frozen), key
