# Copyright (c) mmcim contributors. All rights reserved.
"""The baselines learn from real images."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed
from mmpretrain.registry import MODELS

from .test_baselines import beit, mae, mocov3, simmim

pytestmark = pytest.mark.slow

STEPS = 200
BATCH = 32


@pytest.fixture(scope='module')
def crops(imagenette_mini):
    """All training images twice, in crops of 32 px, uint8, (2, N, 3, 32, 32)."""
    crop = dict(
        type='RandomResizedCrop',
        scale=32,
        crop_ratio_range=(0.3, 1.0),
        backend='pillow',
        interpolation='bicubic',
    )
    loader = dict(
        batch_size=BATCH,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True, seed=0),
        collate_fn=dict(type='default_collate'),
        drop_last=True,
        dataset=dict(
            type='CustomDataset',
            data_root=str(imagenette_mini / 'train'),
            with_label=False,
            pipeline=[
                dict(type='LoadImage'),
                dict(type='MultiView', num_views=2, transforms=[[crop]]),
                dict(type='PackInputs'),
            ],
        ),
    )
    set_random_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batches = [batch['inputs'] for batch in Runner.build_dataloader(loader)]
    return [torch.cat(crop) for crop in zip(*batches, strict=True)]


@pytest.mark.parametrize('config', [beit, simmim, mae, mocov3])
def test_training_lowers_loss(crops, config):
    """By more than 10 % of the mean of the first ten steps."""
    set_random_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config())
        model.init_weights()
        optim = build_optim_wrapper(
            model,
            dict(
                type='AutoAmpOptimWrapper',
                constructor='NetworkwiseOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=3e-3, betas=(0.9, 0.98)),
                clip_grad=dict(max_norm=3.0),
            ),
        )
    losses = []
    for step in range(STEPS):
        chosen = torch.randint(len(crops[0]), (BATCH,))
        batch = [crop[chosen] for crop in crops]
        inputs = batch if config is mocov3 else batch[0]
        losses.append(model.train_step(dict(inputs=inputs), optim)['loss'].item())
        if config is mocov3:
            model.momentum_encoder.update(model, step, STEPS)
    first, last = sum(losses[:10]) / 10, sum(losses[-30:]) / 30
    assert last < 0.9 * first, (first, last)
