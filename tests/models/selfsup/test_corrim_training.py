# Copyright (c) mmcim contributors. All rights reserved.
"""200 real steps on real images."""

import math

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import set_random_seed
from mmpretrain.registry import MODELS

from .test_cim_training import loader  # noqa: F401

pytestmark = pytest.mark.slow

STEPS = 200


def test_training_beats_base_rate_loss(loader):  # noqa: F811
    """Contexts of 40 px and exemplars of 16 px, of images of 64 px, in patches of 8."""
    arch = dict(embed_dims=96, num_layers=2, num_heads=3, feedforward_channels=384)
    set_random_seed(0)
    model = MODELS.build(
        dict(
            type='CorrIM',
            backbone=dict(
                type='FixedPositionViT',
                arch=arch,
                img_size=64,
                patch_size=8,
                out_type='raw',
                stop_grad_conv1=True,
            ),
            neck=dict(
                type='CorrelationDecoder',
                in_channels=96,
                grid=(5, 5),
                embed_dims=96,
                num_heads=3,
            ),
            head=dict(type='CorrelationHead', in_channels=96),
            initial_weights='mocov3',  # the released ones need a longer training
            data_preprocessor=dict(
                to_rgb=True,
                context_size=40,
                exemplars=dict(type='ExemplarSampling', num=2, size=16),
                augment=dict(type='StrongAugment', blur_prob=0.5, blur_sigma=(0.1, 0.6)),
            ),
        )
    )
    model.init_weights()
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(
            model,
            dict(
                type='AutoAmpOptimWrapper',
                constructor='NetworkwiseOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95)),
            ),
        )
    logs, batches = [], iter(loader)
    for step in range(STEPS):
        log = model.train_step(next(batches), optim)
        model.momentum_encoder.update(model, step, STEPS)
        logs.append({key: value.item() for key, value in log.items()})

    def mean(key, part):
        return sum(log[key] for log in logs[part]) / len(logs[part])

    first, last = slice(0, 20), slice(-40, None)
    rate = mean('pixel_base_acc', last)
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    assert mean('loss_corr', last) < mean('loss_corr', first) - 0.1
    # Better than a prediction from the exemplars' sizes alone.
    assert mean('loss_corr', last) < 0.9 * 2 * entropy
    assert mean('pixel_acc', last) > rate + 0.01
    assert mean('iou', last) > 0.1
    for name in ('patch_embed.projection.weight', 'pos_embed'):
        own = model.backbone.get_parameter(name)
        assert own.equal(model.momentum_encoder.backbone.get_parameter(name))
