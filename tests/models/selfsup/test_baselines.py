# Copyright (c) mmcim contributors. All rights reserved.
"""The baselines against explicit formulas of their losses."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmcim.models.selfsup import MoCoV3Baseline

from .conftest import vit

BEIT_VIT = vit('FusedBEiTPretrainViT')


def beit(**kwargs):
    return dict(
        type='BEiTBaseline',
        backbone=BEIT_VIT,
        head=dict(type='MaskedTokenHead', embed_dims=32, vocab_size=16),
        tokenizer=dict(type='GreyTokenizer'),
        masking=dict(type='BlockMasking', num_masked=6, min_block=2, num_patches=16),
        data_preprocessor=dict(type='CIMDataPreprocessor', tokenizer_size=16),
        **kwargs,
    )


def simmim():
    return dict(
        type='SimMIMBaseline',
        backbone=BEIT_VIT,
        neck=dict(type='SimMIMLinearDecoder', in_channels=32, encoder_stride=8),
        head=dict(
            type='SimMIMHead',
            patch_size=8,
            loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
        ),
    )


def mae():
    return dict(
        type='MAEBaseline',
        backbone=vit('MAEBaselineViT', mask_ratio=0.75),
        neck=dict(
            type='MAEPretrainDecoder',
            num_patches=16,
            patch_size=8,
            embed_dim=32,
            decoder_embed_dim=32,
            decoder_depth=1,
            decoder_num_heads=2,
        ),
        head=dict(
            type='MAEPretrainHead',
            norm_pix=True,
            patch_size=8,
            loss=dict(type='PixelReconstructionLoss', criterion='L2'),
        ),
    )


def mocov3():
    projector = dict(
        type='NonLinearNeck',
        in_channels=32,
        hid_channels=16,
        out_channels=8,
        num_layers=2,
        with_bias=False,
        with_last_bn_affine=False,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )
    return dict(
        type='MoCoV3Baseline',
        backbone=vit('MoCoV3ViT', stop_grad_conv1=True),
        neck=projector,
        head=dict(
            type='MoCoV3Head',
            predictor={**projector, 'in_channels': 8},
            loss=dict(type='CrossEntropyLoss', loss_weight=0.4),
            temperature=0.2,
        ),
    )


ALL = dict(beit=beit, simmim=simmim, mae=mae, mocov3=mocov3)


def build(config):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config)
    model.init_weights()
    return model.train()


def patches(images, side):
    """Image -> list of its patches in rows, each (3, side, side)."""
    return [
        [
            image[:, y : y + side, x : x + side]
            for y in range(0, image.shape[1], side)
            for x in range(0, image.shape[2], side)
        ]
        for image in images
    ]


def assert_same(model, loss, expected):
    """Value and gradients of all trained parameters."""
    torch.testing.assert_close(loss, expected)
    learnt = {k: p for k, p in model.named_parameters() if p.requires_grad}
    found, plain = (torch.autograd.grad(x, learnt.values()) for x in (loss, expected))
    for name, grad, other in zip(learnt, found, plain):
        torch.testing.assert_close(grad, other, atol=1e-6, rtol=1e-3, msg=name)


def test_beit_loss(inputs):
    model = build(beit())
    drawn = _record_masks(model)
    losses = model(inputs, mode='loss')

    (mask,) = drawn
    assert 0 < mask.sum() <= 12
    logits = model.head.fc(model.backbone(inputs['images'], mask)[-1][:, 1:])
    values, hits = [], []
    for b in range(2):
        ids = model.tokenizer.encode(inputs['tokenizer_images'])[b].flatten()
        terms = []
        for i in range(16):
            if mask[b].flatten()[i]:
                terms.append(-logits[b, i].log_softmax(0)[ids[i]])
                hits.append(logits[b, i].argmax() == ids[i])
        values.append(sum(terms) / len(terms))
    assert_same(model, losses['loss'], sum(values) / 2)
    torch.testing.assert_close(losses['token_acc'], torch.stack(hits).float().mean())


def _record_masks(model):
    """Let a model note the masks that it draws."""
    drawn, draw = [], model.draw_mask

    def call(images):
        drawn.append(draw(images))
        return drawn[-1]

    model.draw_mask = call
    return drawn


def test_beit_tokenizer_is_frozen(inputs):
    model = build(beit())
    assert not any('tokenizer' in name for name, _ in model.named_parameters())
    assert not any('tokenizer' in name for name in model.state_dict())
    assert not model.tokenizer.training


def test_beit_mismatched_sizes_raise():
    config = beit()
    config['head'] = dict(type='MaskedTokenHead', embed_dims=32, vocab_size=17)
    with pytest.raises(ValueError, match='set model.head.vocab_size=16'):
        build(config)
    config = beit()
    config['data_preprocessor'] = dict(type='CIMDataPreprocessor', tokenizer_size=32)
    with pytest.raises(ValueError, match=r'tokenizer_size=\(16, 16\)'):
        build(config)


def test_simmim_loss(inputs):
    model = build(simmim())
    drawn = _record_masks(model)
    loss = model(inputs, mode='loss')['loss']

    (mask,) = drawn
    assert mask.sum(dim=(1, 2)).tolist() == [12, 12]  # 3 of 4 squares of 4
    tokens = model.backbone(inputs['images'], mask)[-1][:, 1:]
    kernel = model.neck.decoder[0]
    total, count = 0, 0
    for b, image in enumerate(patches(inputs['images'], 8)):
        for i, patch in enumerate(image):
            if mask[b].flatten()[i]:
                # PixelShuffle: channel c, row y, column x is number (c * 8 + y) * 8 + x.
                flat = kernel.weight.flatten(1) @ tokens[b, i] + kernel.bias
                total += (flat.view(3, 8, 8) - patch).abs().sum()
                count += patch[0].numel()
    assert_same(model, loss, total / count / 3)


def test_mae_loss(inputs):
    model = build(mae())
    torch.manual_seed(1)
    loss = model(inputs, mode='loss')['loss']

    torch.manual_seed(1)
    latent, mask, restore = model.backbone(inputs['images'], mask=True)
    assert latent.shape[1] == 1 + 4  # a quarter of 16
    pred = model.neck(latent, restore)
    values = []
    for b, image in enumerate(patches(inputs['images'], 8)):
        for i, patch in enumerate(image):
            if mask[b, i]:
                target = patch.permute(1, 2, 0).flatten()
                target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
                values.append((pred[b, i] - target).square().mean())
    assert len(values) == 2 * 12
    assert_same(model, loss, sum(values) / len(values))


def test_mocov3_loss():
    model = build(mocov3())
    images, second = torch.randn(2, 4, 3, 32, 32)
    start = {k: v.clone() for k, v in model.momentum_encoder.named_parameters()}
    loss = model(dict(images=images, second_crops=second), mode='loss')['loss']
    for name, value in model.momentum_encoder.named_parameters():
        assert value.equal(start[name]), name  # it waits for the optimizer

    # Batch norms in train mode do not use their running statistics.
    def unit(x):
        return x / x.norm(dim=1, keepdim=True)

    expected = 0
    for query, key in ((images, second), (second, images)):
        embedded = model.neck(model.backbone(query))
        p = unit(model.head.predictor(embedded)[0])
        copy = model.momentum_encoder
        k = unit(copy.neck(copy.backbone(key))[0]).detach()
        for i in range(4):
            scores = [torch.exp(p[i] @ k[j] / 0.2) for j in range(4)]
            expected -= 2 * 0.2 * torch.log(scores[i] / sum(scores)) / 4
    assert_same(model, loss, expected)


def test_mocov3_loss_is_computed_in_float32():
    model = build(mocov3())
    arrived = []
    for part in (model.head.predictor, model.head.loss_module):
        part.register_forward_pre_hook(lambda _, args: arrived.append(args[0]))
    images, second = torch.randn(2, 4, 3, 32, 32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert model.neck(model.backbone(images))[0].dtype == torch.bfloat16
        loss = model(dict(images=images, second_crops=second), mode='loss')['loss']
    assert loss.dtype == torch.float32
    for (embedded,), logits in zip(arrived[::2], arrived[1::2], strict=True):
        assert embedded.dtype == logits.dtype == torch.float32
        # Nothing in between was computed in bfloat16.
        assert not logits.mul(0.2).equal(logits.mul(0.2).bfloat16().float())


def test_mocov3_gradients():
    model = build(mocov3())
    images, second = torch.randn(2, 4, 3, 32, 32)
    model(dict(images=images, second_crops=second), mode='loss')['loss'].backward()
    fixed = ('backbone.pos_embed', 'backbone.patch_embed')
    for name, param in model.named_parameters():
        frozen = name.startswith(('momentum_encoder', *fixed))
        assert (param.grad is None) == frozen, name


def test_mocov3_momentum_updates_per_optimizer_step():
    model = build(mocov3())
    assert isinstance(model, MoCoV3Baseline)
    network = model.backbone.layers[0].attn.qkv.weight
    copy = model.momentum_encoder.backbone.layers[0].attn.qkv.weight
    assert copy.equal(network)
    before = copy.clone()
    with torch.no_grad():
        network.add_(1)
    assert model.momentum_encoder.update(model, 0, num_steps=10) == 0.99
    torch.testing.assert_close(copy, before + 0.01)


@pytest.mark.parametrize('name', ALL)
def test_features_of_full_images(name, inputs):
    model = build(ALL[name]())
    model.eval()
    (from_dict,) = model(inputs, mode='tensor')
    (from_images,) = model(inputs['images'], mode='tensor')
    assert from_dict.equal(from_images)
    assert model.backbone(inputs['images'])[-1].equal(from_images)
    assert from_dict.shape == ((2, 32) if name == 'mocov3' else (2, 17, 32))


def test_data_preprocessor_type_can_be_overridden():
    kinds = []
    for preprocessor in (None, dict(flip_prob=0.25), dict(type='CIMDataPreprocessor')):
        model = build(simmim() | dict(data_preprocessor=preprocessor))
        kinds.append(type(model.data_preprocessor).__name__)
        assert model.data_preprocessor.flip_prob == (preprocessor or {}).get(
            'flip_prob', 0.5
        )
    assert kinds == ['DevicePreprocessor', 'DevicePreprocessor', 'CIMDataPreprocessor']


@pytest.mark.parametrize('name', ['beit', 'simmim'])
def test_wrong_image_size_raises(name, inputs):
    model = build(ALL[name]())
    inputs['images'] = inputs['images'][..., :24, :24]
    with pytest.raises(ValueError, match='set img_size of the backbone'):
        model(inputs, mode='loss')


def test_mae_of_mmpretrain_sees_whole_images_in_feature_extraction():
    """Its ViT masks by default."""
    config = mae()
    config['backbone'] = dict(config['backbone'], type='MAEViT')
    model = MODELS.build(config)
    (tokens,) = model.extract_feat(torch.rand(2, 3, 32, 32))
    assert tokens.shape == (2, 17, 32)
