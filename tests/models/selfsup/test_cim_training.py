# Copyright (c) mmcim contributors. All rights reserved.
"""200 real steps on real images with a real tokenizer."""

import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed
from mmpretrain.registry import MODELS

from .conftest import respix, revdet, vit

pytestmark = pytest.mark.slow

STEPS = 200


@pytest.fixture
def loader(imagenette_mini):
    config = dict(
        batch_size=32,
        num_workers=0,
        sampler=dict(type='InfiniteSampler', seed=0),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='CustomDataset',
            data_root=str(imagenette_mini / 'train'),
            with_label=False,
            pipeline=[
                dict(type='LoadImage'),
                dict(
                    type='RandomResizedCrop',
                    scale=64,
                    crop_ratio_range=(0.3, 1.0),
                    backend='pillow',
                    interpolation='bicubic',
                ),
                dict(type='PackInputs'),
            ],
        ),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return Runner.build_dataloader(config)


@pytest.mark.parametrize(
    ('objective', 'loss'), [('respix', 'loss_pix'), ('revdet', 'loss_det')]
)
def test_training_lowers_both_losses(loader, vqvae_weights, objective, loss):
    """A tokenizer input of 32 px has 8 x 8 tokens; patches of 8 px in images of 64."""
    arch = dict(embed_dims=96, num_layers=3, num_heads=3, feedforward_channels=384)
    size = dict(img_size=64, patch_size=8, arch=arch)
    generator = vit('FusedBEiTPretrainViT') | size
    backbone = vit(out_type='featmap') | size
    set_random_seed(0)
    model = MODELS.build(
        dict(
            type='CIM',
            tokenizer=dict(type='VQVAETokenizer', checkpoint=str(vqvae_weights)),
            generator=dict(
                type='CIMGenerator',
                backbone=generator,
                head=dict(type='MaskedTokenHead', embed_dims=96, vocab_size=512),
            ),
            enhancer=dict(respix=respix, revdet=revdet)[objective](backbone, 96),
            data_preprocessor=dict(to_rgb=True, tokenizer_size=32),
        )
    )
    model.init_weights()
    before = {k: v.clone() for k, v in model.tokenizer.named_buffers()}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(
            model,
            dict(
                type='AutoAmpOptimWrapper',
                constructor='NetworkwiseOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.98)),
                clip_grad=dict(max_norm=3.0),
            ),
        )
    logs, counts, blank = [], torch.zeros(512), []
    batches = iter(loader)
    for _ in range(STEPS):
        data = next(batches)
        log = model.train_step(data, optim)
        logs.append({key: value.item() for key, value in log.items()})
        if len(logs) > STEPS - 40:
            batch = model.data_preprocessor(data)['inputs']
            tokens = model.tokenizer.encode(batch['tokenizer_images'])
            counts += tokens.flatten().bincount(minlength=512)
            if objective == 'respix':  # what a network earns that restores nothing
                images = batch['images']
                none = torch.zeros_like(images)
                blank.append(model.enhancer.head.loss(none, images).item())

    def mean(key, part):
        return sum(log[key] for log in logs[part]) / len(logs[part])

    first, last = slice(0, 20), slice(-40, None)
    assert mean('loss_gen', last) < mean('loss_gen', first) - 0.5
    assert mean(loss, last) < logs[0][loss]
    if objective == 'respix':
        assert mean(loss, last) < 0.99 * sum(blank) / len(blank)
    else:
        # better than chance and than the base rate
        assert mean('det_auc', last) > 0.54
        rate = mean('det_base_rate', last)
        entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
        assert mean(loss, last) < entropy
    most_frequent = (counts.max() / counts.sum()).item()
    assert mean('token_acc', last) > 1.2 * most_frequent
    for key, value in model.tokenizer.named_buffers():
        assert value.equal(before[key])
