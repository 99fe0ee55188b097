# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT

from mmcim.models.backbones import FusedBEiTPretrainViT, FusedBEiTViT

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
SMALL = dict(arch=ARCH, img_size=32, patch_size=8)


def randomise(model):
    torch.manual_seed(0)
    for param in model.parameters():
        param.data.normal_(std=0.3)


def twins(fused_class, plain_class, **kwargs):
    fused, plain = fused_class(**SMALL, **kwargs), plain_class(**SMALL, **kwargs)
    randomise(plain)
    fused.load_state_dict(plain.state_dict())  # strict: the same parameter names
    return fused, plain


@pytest.mark.parametrize('shared', [True, False])
def test_masked_encoder_equals_mmpretrain(shared):
    fused, plain = twins(
        FusedBEiTPretrainViT,
        BEiTPretrainViT,
        use_shared_rel_pos_bias=shared,
        use_rel_pos_bias=not shared,
    )
    images, mask = torch.randn(2, 3, 32, 32), torch.rand(2, 4, 4) > 0.5
    ours, theirs = fused(images, mask)[0], plain(images, mask)[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)

    weights = torch.randn_like(ours)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    for (name, a), (_, b) in zip(fused.named_parameters(), plain.named_parameters()):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4, msg=name)


def test_encoder_equals_mmpretrain():
    fused, plain = twins(FusedBEiTViT, BEiTViT, out_type='featmap')
    images = torch.randn(2, 3, 32, 32)
    ours, theirs = fused(images)[0], plain(images)[0]
    assert ours.shape == (2, 32, 4, 4)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_mask_token_stands_in_for_masked_patches():
    model = FusedBEiTPretrainViT(**SMALL)
    randomise(model)
    mask = torch.rand(1, 4, 4) > 0.5
    hidden = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    images = torch.randn(1, 3, 32, 32)
    other = torch.where(hidden, torch.randn_like(images), images)
    assert model(images, mask)[0].equal(model(other, mask)[0])
    other = torch.where(hidden, images, torch.randn_like(images))
    assert not model(images, mask)[0].allclose(model(other, mask)[0])


def test_feed_forward_branch_is_dropped_once():
    arch = {**ARCH, 'num_layers': 1}
    model = FusedBEiTViT(
        arch=arch,
        img_size=32,
        patch_size=8,
        layer_cfgs=dict(drop_path_rate=0.3),
        layer_scale_init_value=0,
    )
    layer = model.layers[0]
    for param in layer.attn.parameters():  # leaves the feed-forward branch alone
        param.data.zero_()
    tokens = torch.randn(4000, 1, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        layer.attn.forward = lambda x, rel_pos_bias: torch.zeros_like(x)
        out = layer.train()(tokens, None)
    survived = (out != tokens).any(dim=-1).float().mean()
    assert abs(survived - 0.7) < 5 * (0.21 / 4000) ** 0.5


def test_dropout_rates_arrive():
    model = FusedBEiTViT(**SMALL, drop_rate=0.2, attn_drop_rate=0.3)
    for layer in model.layers:
        assert layer.attn.attn_drop.p == 0.3
        assert layer.attn.proj_drop.p == 0.2
    x = torch.randn(2, 17, 32)
    attn = model.layers[0].attn
    assert not attn.train()(x).equal(attn(x))
    assert attn.eval()(x).equal(attn(x))


def test_initialisation_is_beits():
    torch.manual_seed(0)
    arch = dict(embed_dims=256, num_layers=3, num_heads=4, feedforward_channels=512)
    model = FusedBEiTPretrainViT(arch=arch, img_size=32, patch_size=8)
    model.init_weights()
    for depth, layer in enumerate(model.layers, start=1):
        for weight in (layer.attn.qkv.weight, layer.ffn.layers[0][0].weight):
            assert weight.std().item() == pytest.approx(0.02, rel=0.03)
        for weight in (layer.attn.proj.weight, layer.ffn.layers[1].weight):
            expected = 0.02 / math.sqrt(2 * depth)
            assert weight.std().item() == pytest.approx(expected, rel=0.03)
        assert layer.ffn.layers[1].bias.abs().max() == 0
    assert model.mask_token.std().item() == pytest.approx(0.02, rel=0.15)
    assert model.cls_token.std().item() == pytest.approx(0.02, rel=0.15)
