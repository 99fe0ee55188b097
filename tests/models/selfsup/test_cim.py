# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch.nn import functional as F

from mmcim.models.selfsup import ResPix

from .conftest import respix, revdet, vit


def build(configs, **kwargs):
    torch.manual_seed(1)
    model = MODELS.build({**configs, **kwargs})
    model.init_weights()
    return model


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
def test_five_steps_match_definition(configs, inputs, mode):
    """All parts of a corruption, step by step."""
    model = build(configs, **({} if mode == 'bicubic' else dict(upsampling=mode)))
    batch = model.corrupt(inputs)
    assert isinstance(model, BaseSelfSupervisor)
    assert model.backbone is model.enhancer.backbone

    grey = inputs['tokenizer_images'].mean(dim=1)
    for b, y, x in torch.cartesian_prod(*map(torch.arange, (2, 4, 4))).tolist():
        cell = grey[b, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean()
        assert batch.golden[b, y, x] == round(15 * cell.item())
    assert batch.mixed[~batch.mask].equal(batch.golden[~batch.mask])

    image = batch.mixed[:, None].expand(-1, 3, -1, -1) / 15
    image = image.repeat_interleave(4, 2).repeat_interleave(4, 3)
    image = F.interpolate(image, size=32, mode=mode).clamp(0, 1)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    expected = (255 * image - mean) / std
    torch.testing.assert_close(batch.corrupted, expected, atol=1e-5, rtol=1e-5)


def test_samples_follow_generator_distribution(configs, inputs):
    model = build(configs, generator={**configs['generator'], 'sampling': 'argmax'})
    batch = model.corrupt(inputs)
    most_likely = batch.logits.argmax(dim=2)[batch.patches.valid]
    assert batch.mixed[batch.mask].equal(most_likely)


def test_extract_feat_accepts_preprocessor_output(configs, inputs):
    model = build(configs).eval()
    data = model.data_preprocessor(dict(inputs=images(inputs)))
    feats = model(data['inputs'], mode='tensor')
    expected = model.backbone(data['inputs']['images'])
    assert feats[-1].shape == (2, 32, 4, 4) and feats[-1].equal(expected[-1])


def test_loss_keys_and_values(configs, inputs):
    model = build(configs, enhancer_weight=3.0)
    batch = model.corrupt(inputs)
    model.corrupt = lambda *args: batch
    losses = model(inputs, mode='loss')
    assert set(losses) == {'loss_gen', 'token_acc', 'replaced', 'loss_pix'}
    target = batch.golden[batch.mask]
    right = batch.logits.argmax(dim=2)[batch.patches.valid] == target
    torch.testing.assert_close(losses['token_acc'], right.float().mean())
    differs = (batch.mixed != batch.golden)[batch.mask]
    torch.testing.assert_close(losses['replaced'], differs.float().mean())
    alone = model.enhancer.loss(batch._asdict())['loss_pix']
    torch.testing.assert_close(losses['loss_pix'], 3 * alone)


def test_revdet_reports_detection_metrics(configs, inputs):
    model = build(configs, enhancer=revdet(), enhancer_weight=3.0)
    batch = model.corrupt(inputs)
    model.corrupt = lambda *args: batch
    losses = model(inputs, mode='loss')
    alone = model.enhancer.loss(batch._asdict())
    assert set(alone) == {'loss_det', 'det_auc', 'det_acc', 'det_base_rate'}
    assert set(losses) == {'loss_gen', 'token_acc', 'replaced', *alone}
    for name, value in alone.items():  # the weight is of the loss alone
        weight = 3 if name == 'loss_det' else 1
        torch.testing.assert_close(losses[name], weight * value)


@pytest.mark.parametrize('objective', ['respix', 'revdet'])
def test_no_gradient_flows_between_generator_and_enhancer(configs, inputs, objective):
    if objective == 'revdet':
        configs['enhancer'] = revdet()
    model = build(configs)
    loss = {'respix': 'loss_pix', 'revdet': 'loss_det'}[objective]

    losses = model(inputs, mode='loss')
    losses[loss].backward(retain_graph=True)
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None for p in model.enhancer.parameters())

    model.zero_grad()
    losses['loss_gen'].backward()
    assert all(p.grad is None for p in model.enhancer.parameters())
    assert all(p.grad is not None for p in model.generator.parameters())

    # and its gradient is that of its own loss, computed separately
    model.zero_grad()
    batch = model.corrupt(inputs)
    model.corrupt = lambda *args: batch
    sum(v for k, v in model(inputs, mode='loss').items() if 'loss' in k).backward()
    together = [p.grad.clone() for p in model.generator.parameters()]
    model.zero_grad()
    own = {k: v for k, v in batch._asdict().items() if k != 'logits'}
    model.generator(own, mode='loss')['loss_gen'].backward()
    for a, p in zip(together, model.generator.parameters()):
        torch.testing.assert_close(a, p.grad)


def test_tokenizer_is_unchanged_by_training(configs, inputs):
    model = build(configs).train()
    assert not model.tokenizer.training
    assert not any('tokenizer' in name for name, _ in model.named_parameters())
    assert not any('tokenizer' in name for name in model.state_dict())
    before = {k: v.clone() for k, v in model.tokenizer.named_buffers()}
    optim = build_optim_wrapper(
        model, dict(optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.5))
    )
    for _ in range(3):
        log = model.train_step(dict(inputs=images(inputs)), optim)
        assert torch.isfinite(log['loss'])
    after = dict(model.tokenizer.named_buffers())
    assert before and all(before[k].equal(after[k]) for k in before)


def test_images_of_another_size_are_refused(configs, inputs):
    # The size of the images is known to neither a ResNet nor a grid.
    enhancer = respix(dict(type='ResNet', depth=18), 512, stride=16)
    blank = dict(tokenizer=None, generator=None, grid=(4, 4), enhancer=enhancer)
    with pytest.raises(ValueError, match='encoder_stride'):
        build(configs, **blank)(inputs, mode='loss')


def images(inputs):
    """The uint8 images of the inputs."""
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    return (inputs['images'] * std + mean).round().clamp(0, 255).to(torch.uint8)


def test_masked_input_without_generator(configs, inputs):
    model = build(configs, tokenizer=None, generator=None, grid=(4, 4))
    assert isinstance(model.enhancer, ResPix)
    batch = model.corrupt(inputs)
    hidden = batch.mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    hidden = hidden.expand_as(batch.images)
    assert batch.corrupted[hidden].abs().max() == 0
    assert batch.corrupted[~hidden].equal(batch.images[~hidden])
    assert set(model(inputs, mode='loss')) == {'loss_pix'}


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(generator=None), 'both or neither'),
        (dict(tokenizer=None, generator=None), 'grid='),
        (dict(tokenizer=None, generator=None, enhancer=revdet()), 'RevDet needs'),
        (
            dict(
                generator=dict(
                    type='CIMGenerator',
                    backbone=vit('FusedBEiTPretrainViT'),
                    head=dict(type='MaskedTokenHead', embed_dims=32, vocab_size=8192),
                )
            ),
            r'vocab_size=16',
        ),
        (
            dict(data_preprocessor=dict(type='CIMDataPreprocessor', tokenizer_size=32)),
            r'tokenizer_size=\(16, 16\)',
        ),
        (
            dict(masking=dict(type='BlockMasking', num_patches=16)),
            'masks 75 to 75 of 4 x 4',
        ),
        (
            dict(masking=dict(type='RatioMasking', mask_patch_size=3)),
            'by mask_patch_size=3',
        ),
        (
            dict(
                tokenizer=None,
                generator=None,
                grid=(5, 5),
                masking=dict(type='RatioMasking', mask_patch_size=2),
            ),
            'by mask_patch_size=2',
        ),
    ],
)
def test_mismatched_parts_raise(configs, change, words):
    with pytest.raises(ValueError, match=words):
        build(configs, **change)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(enhancer=respix(stride=16)), r'\(3, 64, 64\).*encoder_stride'),
        (
            dict(enhancer=revdet(upscale=2)),
            r'\(8, 8\), not \(4, 4\): set upscale',
        ),
        (
            dict(enhancer=revdet(dict(type='ResNet', depth=18), 512, upscale=2)),
            r'\(2, 2\), not \(4, 4\): set upscale',
        ),
        (dict(enhancer=respix(vit())), "out_type='featmap'"),
        (
            dict(
                tokenizer=None,
                generator=None,
                grid=(4, 4),
                enhancer=respix(stride=16),
            ),
            'encoder_stride',
        ),
    ],
)
def test_mismatched_shapes_raise_in_first_step(configs, inputs, change, words):
    model = build(configs, **change)
    with pytest.raises(ValueError, match=words):
        model(inputs, mode='loss')
