# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT
from timm.layers import resize_rel_pos_bias_table

from mmcim.models.backbones import FusedBEiTPretrainViT, FusedBEiTViT
from mmcim.models.backbones.beit import relative_position_bias

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


POSITIONS = dict(
    shared=dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    per_layer=dict(),
    absolute=dict(use_rel_pos_bias=False, use_abs_pos_emb=True),
)


@pytest.mark.parametrize('positions', POSITIONS)
def test_own_size_equals_mmpretrain(positions):
    kwargs = dict(POSITIONS[positions], img_size=(32, 48), out_type='featmap')
    kwargs['out_indices'] = [0, 1]
    fused, plain = (cls(**{**SMALL, **kwargs}) for cls in (FusedBEiTViT, BEiTViT))
    randomise(plain)
    fused.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 48)
    for ours, theirs in zip(fused(images), plain(images), strict=True):
        assert ours.shape == (2, 32, 4, 6)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [(32, 56), (72, 40)])
@pytest.mark.parametrize('positions', POSITIONS)
def test_other_size_equals_a_model_made_for_it(positions, size):
    model = FusedBEiTViT(**SMALL, **POSITIONS[positions], out_type='raw')
    randomise(model)
    grid = (size[0] // 8, size[1] // 8)
    other = FusedBEiTViT(
        **{**SMALL, 'img_size': size}, **POSITIONS[positions], out_type='raw'
    )
    state = model.state_dict()
    for name, own in other.state_dict().items():
        if name.endswith('relative_position_index'):
            state[name] = own  # mmpretrain's own statement of which row is whose
        elif name.endswith('relative_position_bias_table'):
            shape = own.shape
            state[name] = resize_rel_pos_bias_table(state[name], grid, shape)
        elif name == 'pos_embed':
            cls, patches = state[name].split([1, 16], dim=1)
            patches = patches.reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
            patches = torch.nn.functional.interpolate(patches, grid, mode='bicubic')
            state[name] = torch.cat((cls, patches.flatten(2).mT), dim=1)
    other.load_state_dict(state)
    images = torch.randn(2, 3, *size)
    ours, expected = model(images)[0], other(images)[0]
    assert ours.shape == (2, 1 + grid[0] * grid[1], 32)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('positions', ['shared', 'per_layer'])
def test_gradient_reaches_the_table_at_another_size(positions):
    model = FusedBEiTViT(**SMALL, **POSITIONS[positions], out_type='raw')
    randomise(model)
    images = torch.randn(1, 3, 24, 40)
    # A model that was evaluated first may be trained afterwards.
    with torch.inference_mode():
        model(images)
    weights = torch.randn(1, 16, 32)
    (model(images)[0] * weights).sum().backward()
    owner = model.rel_pos_bias if positions == 'shared' else model.layers[0].attn
    table = owner.relative_position_bias_table
    # A directional derivative, by differences.
    direction = torch.randn(table.shape, generator=torch.Generator().manual_seed(1))
    slope = (table.grad * direction).sum().item()
    model.double()
    start = table.data.clone()
    values = []
    for step in (1e-3, -1e-3):
        table.data = start + step * direction
        values.append((model(images.double())[0] * weights).sum().item())
    assert slope == pytest.approx((values[0] - values[1]) / 2e-3, rel=1e-3)
    assert (table.grad[-3:] != 0).all()


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


@pytest.mark.parametrize('grid', [(4, 4), (3, 7)])
@pytest.mark.parametrize('positions', ['shared', 'per_layer'])
def test_bias_has_the_layout_of_fused_kernels(positions, grid):
    model = FusedBEiTViT(**SMALL, **POSITIONS[positions])
    owner = model.rel_pos_bias if positions == 'shared' else model.layers[0].attn
    bias = relative_position_bias(owner, grid)
    assert bias.shape == (4, 1 + grid[0] * grid[1], 1 + grid[0] * grid[1])
    assert bias.stride(-1) == 1


@pytest.mark.parametrize('positions', POSITIONS)
def test_frozen_backbone_does_not_train(positions):
    kwargs = dict(POSITIONS[positions], out_type='featmap')
    kwargs.update(layer_cfgs=dict(drop_path_rate=0.5), drop_rate=0.5, attn_drop_rate=0.5)
    model = FusedBEiTViT(**SMALL, **kwargs, frozen_stages=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    head = torch.nn.Conv2d(32, 2, 1)
    optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=1.0)
    images = torch.randn(2, 3, 32, 32)
    model.train()
    features = model(images)[0]
    head(features).sum().backward()
    optimizer.step()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == []
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    model.eval()
    torch.testing.assert_close(features, model(images)[0], rtol=0, atol=0)


def test_stages_above_the_frozen_ones_train():
    model = FusedBEiTViT(**SMALL, frozen_stages=1)
    model.train()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    last = {n for n, _ in model.named_parameters() if n.startswith(('layers.1.', 'ln'))}
    assert trained == last


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
