# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT

from mmcim.models.backbones import FusedBEiTPretrainViT, FusedBEiTViT
from mmcim.models.backbones.beit_layers import relative_position_bias

from ...checkpoints.beit_tables import resized_table

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
SMALL = dict(arch=ARCH, img_size=32, patch_size=8)


def randomize(model):
    torch.manual_seed(0)
    for param in model.parameters():
        param.data.normal_(std=0.3)


def twins(fused_class, plain_class, **kwargs):
    fused, plain = fused_class(**SMALL, **kwargs), plain_class(**SMALL, **kwargs)
    randomize(plain)
    fused.load_state_dict(plain.state_dict())  # strict: the same parameter names
    return fused, plain


@pytest.mark.parametrize('shared', [True, False])
def test_masked_encoder_matches_mmpretrain(shared):
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


OUTPUTS = dict(raw=(17, 32), cls_token=(32,), featmap=(32, 4, 4), avg_featmap=(32,))


@pytest.mark.parametrize('out_type', OUTPUTS)
def test_encoder_matches_mmpretrain(out_type):
    fused, plain = twins(FusedBEiTViT, BEiTViT, out_type=out_type)
    images = torch.randn(2, 3, 32, 32)
    ours, theirs = fused(images)[0], plain(images)[0]
    assert ours.shape == (2, *OUTPUTS[out_type])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


# Defaults of FusedBEiTViT that differ from those of FusedBEiTPretrainViT.
PER_LAYER = dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
POSITIONS = dict(
    shared=dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    per_layer=dict(),
    absolute=dict(use_rel_pos_bias=False, use_abs_pos_emb=True),
)


@pytest.mark.parametrize('positions', POSITIONS)
def test_training_size_matches_mmpretrain(positions):
    kwargs = dict(POSITIONS[positions], img_size=(32, 48), out_type='featmap')
    kwargs['out_indices'] = [0, 1]
    fused, plain = (cls(**{**SMALL, **kwargs}) for cls in (FusedBEiTViT, BEiTViT))
    randomize(plain)
    fused.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 48)
    for ours, theirs in zip(fused(images), plain(images), strict=True):
        assert ours.shape == (2, 32, 4, 6)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [(32, 56), (72, 40)])
@pytest.mark.parametrize('positions', POSITIONS)
def test_other_size_matches_model_built_for_it(positions, size):
    model = FusedBEiTViT(**SMALL, **POSITIONS[positions], out_type='raw')
    randomize(model)
    grid = (size[0] // 8, size[1] // 8)
    other = FusedBEiTViT(
        **{**SMALL, 'img_size': size}, **POSITIONS[positions], out_type='raw'
    )
    theirs = BEiTViT(
        **{**SMALL, 'img_size': size}, **POSITIONS[positions], out_type='raw'
    )
    state = model.state_dict()
    for name, own in theirs.state_dict().items():
        if name.endswith('relative_position_index'):
            state[name] = own  # mmpretrain's own statement of which row is whose
        elif name.endswith('relative_position_bias_table'):
            state[name] = resized_table(state[name], (4, 4), grid)
        elif name == 'pos_embed':
            cls, patches = state[name].split([1, 16], dim=1)
            patches = patches.reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
            patches = torch.nn.functional.interpolate(patches, grid, mode='bicubic')
            state[name] = torch.cat((cls, patches.flatten(2).mT), dim=1)
    other.load_state_dict(state)
    theirs.load_state_dict(state)
    images = torch.randn(2, 3, *size)
    ours = model(images)[0]
    assert ours.shape == (2, 1 + grid[0] * grid[1], 32)
    for expected in (other(images)[0], theirs(images)[0]):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('positions', ['shared', 'per_layer'])
def test_bias_table_has_gradient_at_other_size(positions):
    model = FusedBEiTViT(**SMALL, **POSITIONS[positions], out_type='raw')
    randomize(model)
    images = torch.randn(1, 3, 24, 40)
    # A model that was evaluated first may be trained later.
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


def test_mask_token_replaces_masked_patches():
    model = FusedBEiTPretrainViT(**SMALL)
    randomize(model)
    mask = torch.rand(1, 4, 4) > 0.5
    hidden = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    images = torch.randn(1, 3, 32, 32)
    other = torch.where(hidden, torch.randn_like(images), images)
    assert model(images, mask)[0].equal(model(other, mask)[0])
    other = torch.where(hidden, images, torch.randn_like(images))
    assert not model(images, mask)[0].allclose(model(other, mask)[0])


@pytest.mark.parametrize('grid', [(4, 4), (3, 7)])
@pytest.mark.parametrize('positions', ['shared', 'per_layer'])
def test_bias_is_aligned_for_fused_kernels(positions, grid):
    model = FusedBEiTViT(**SMALL, **POSITIONS[positions])
    owner = model.rel_pos_bias if positions == 'shared' else model.layers[0].attn
    bias = relative_position_bias(owner, grid)
    assert bias.shape == (4, 1 + grid[0] * grid[1], 1 + grid[0] * grid[1])
    assert bias.stride(-1) == 1


@pytest.mark.parametrize('positions', POSITIONS)
def test_frozen_backbone_has_no_gradient(positions):
    kwargs = dict(POSITIONS[positions], out_type='featmap')
    kwargs.update(drop_path_rate=0.5, drop_rate=0.5)
    model = FusedBEiTViT(**SMALL, **kwargs, frozen_stages=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # A new network is in training mode, and its frozen stages are not.
    assert model.training and not any(layer.training for layer in model.layers)
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


def test_unfrozen_stages_train():
    model = FusedBEiTViT(**SMALL, frozen_stages=1)
    model.train()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    last = {n for n, _ in model.named_parameters() if n.startswith(('layers.1.', 'ln'))}
    assert trained == last


def test_ffn_drop_path_is_applied_once():
    model = FusedBEiTViT(**SMALL, drop_path_rate=0.3, layer_scale_init_value=0)
    layer = model.layers[1]
    for param in layer.attn.parameters():  # leaves the feed-forward branch alone
        param.data.zero_()
    tokens = torch.randn(4000, 1, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        layer.attn.forward = lambda x, rel_pos_bias: torch.zeros_like(x)
        out = layer.train()(tokens, None)
    survived = (out != tokens).any(dim=-1).float().mean()
    assert abs(survived - 0.7) < 5 * (0.21 / 4000) ** 0.5


def test_dropout_rates_are_applied():
    model = FusedBEiTViT(**SMALL, drop_rate=0.2)
    for layer in model.layers:
        assert layer.attn.proj_drop.p == 0.2
    x = torch.randn(2, 17, 32)
    attn = model.layers[0].attn
    assert not attn.train()(x).equal(attn(x))
    assert attn.eval()(x).equal(attn(x))


def truncated_std(sigma=0.02):
    """Standard deviation of a normal distribution that is truncated at one sigma."""
    density = math.exp(-0.5) / math.sqrt(2 * math.pi)
    return sigma * math.sqrt(1 - 2 * density / math.erf(math.sqrt(0.5)))


@pytest.mark.parametrize('positions', POSITIONS)
def test_initial_weights_follow_beit(positions):
    torch.manual_seed(0)
    arch = dict(embed_dims=256, num_layers=3, num_heads=4, feedforward_channels=512)
    model = FusedBEiTPretrainViT(
        arch=arch, img_size=32, patch_size=8, **PER_LAYER | POSITIONS[positions]
    )
    model.init_weights()
    std = truncated_std()
    assert std == pytest.approx(0.0108, abs=5e-5)
    for depth, layer in enumerate(model.layers, start=1):
        for weight in (layer.attn.qkv.weight, layer.ffn.layers[0][0].weight):
            assert weight.std().item() == pytest.approx(std, rel=0.02)
            assert 0.0199 < weight.abs().max() <= 0.02
        for weight in (layer.attn.proj.weight, layer.ffn.layers[1].weight):
            scale = math.sqrt(2 * depth)
            assert weight.std().item() == pytest.approx(std / scale, rel=0.02)
            assert weight.abs().max() * scale <= 0.02 + 1e-6
        assert layer.ffn.layers[1].bias.abs().max() == 0
        assert layer.attn.q_bias.abs().max() == 0
    tokens = [model.patch_embed.projection.weight, model.mask_token, model.cls_token]
    tokens += [model.pos_embed] if positions == 'absolute' else []
    for token in tokens:
        assert token.std().item() == pytest.approx(std, rel=0.15)
        assert 0.015 < token.abs().max() <= 0.02
    tables = [p for n, p in model.named_parameters() if n.endswith('bias_table')]
    assert len(tables) == dict(shared=1, per_layer=3, absolute=0)[positions]
    assert not any(table.any() for table in tables)


@pytest.mark.parametrize('positions', POSITIONS)
def test_parameter_order_matches_mmpretrain(positions):
    """Optimizer states are resumed in the order of the parameters."""
    for ours, theirs in (
        (FusedBEiTViT, BEiTViT),
        (FusedBEiTPretrainViT, BEiTPretrainViT),
    ):
        kwargs = SMALL | PER_LAYER | POSITIONS[positions]
        ours, theirs = (cls(**kwargs) for cls in (ours, theirs))
        names = [name for name, _ in ours.named_parameters()]
        assert names == [name for name, _ in theirs.named_parameters()]
        for name, value in theirs.state_dict().items():
            if name.endswith('relative_position_index'):
                assert ours.state_dict()[name].equal(value)


@pytest.mark.parametrize('cls', [FusedBEiTViT, FusedBEiTPretrainViT])
def test_unknown_arguments_raise(cls):
    with pytest.raises(TypeError, match='drop_pth_rate'):
        cls(**SMALL, drop_pth_rate=0.1)


@pytest.mark.parametrize(
    ('kwargs', 'text'),
    [
        (dict(use_shared_rel_pos_bias=True), 'excludes use_shared_rel_pos_bias'),
        (dict(out_type='tokens'), "out_type='tokens' is none of"),
        (dict(arch='huge'), "arch='huge' is none of"),
        (dict(out_indices=[0, 2]), 'num_layers=2'),
    ],
)
def test_removed_arguments_raise(kwargs, text):
    with pytest.raises(ValueError, match=text):
        FusedBEiTViT(**{**SMALL, **kwargs})


def test_negative_out_indices():
    given = [-2, -1]
    model = FusedBEiTViT(**SMALL, out_indices=given, out_type='cls_token')
    assert model.out_indices == [0, 1] and given == [-2, -1]
    outs = model(torch.randn(2, 3, 32, 32))
    assert [out.shape for out in outs] == [(2, 32)] * 2


def test_exported_encoder_has_no_mask_token():
    kwargs = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
    kwargs.update(final_norm=True, out_type='raw')
    trained, plain = FusedBEiTPretrainViT(**SMALL), FusedBEiTViT(**SMALL, **kwargs)
    randomize(trained)
    state = trained.state_dict()
    del state['mask_token']
    plain.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    assert plain(images)[0].equal(trained(images)[0])
    assert trained(images, torch.zeros(2, 4, 4).bool())[0].equal(plain(images)[0])


def test_masks_at_other_size():
    model = FusedBEiTPretrainViT(**SMALL)
    randomize(model)
    mask = torch.rand(1, 3, 5) > 0.5
    hidden = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    images = torch.randn(1, 3, 24, 40)
    tokens = model(images, mask)[0]
    assert tokens.shape == (1, 16, 32)
    assert tokens.equal(model(images.masked_fill(hidden, 9), mask)[0])


def test_wrong_mask_shape_raises():
    images, mask = torch.randn(1, 3, 32, 64), torch.ones(1, 8, 4).bool()
    with pytest.raises(ValueError, match=r'mask of \(8, 4\) .* images of \(4, 8\); set'):
        FusedBEiTPretrainViT(**SMALL)(images, mask)
    with pytest.raises(ValueError, match='a FusedBEiTViT has no mask token'):
        FusedBEiTViT(**SMALL)(images, mask.mT)


def test_frozen_stages_freeze_mask_token():
    model = FusedBEiTPretrainViT(**SMALL, frozen_stages=1)
    model(torch.randn(2, 3, 32, 32), torch.rand(2, 4, 4) > 0.5)[0].sum().backward()
    assert model.mask_token.grad is None and model.rel_pos_bias.training is False
    assert model.layers[1].attn.qkv.weight.grad is not None


@pytest.mark.parametrize('positions', POSITIONS)
@pytest.mark.parametrize('size', [(32, 32), (48, 40)])
def test_traced_graph_accepts_other_batch_sizes(positions, size):
    model = FusedBEiTViT(**SMALL, **POSITIONS[positions], out_type='featmap').eval()
    randomize(model)
    two, three = (torch.randn(n, 3, *size) for n in (2, 3))
    expected = model(three)[0]
    traced = torch.jit.trace(model, two)
    torch.testing.assert_close(traced(three)[0], expected)
    batch = torch.export.Dim('batch')
    exported = torch.export.export(model, (two,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(exported.module()(three)[0], expected)
    # The model itself is unchanged.
    assert model(three)[0].equal(expected)


def test_masked_training_compiles_to_one_graph():
    model = FusedBEiTPretrainViT(**SMALL, drop_path_rate=0.5)
    rates = [layer.drop_path.drop_prob for layer in model.layers]
    assert rates == [0.0, 0.5] and {type(rate) for rate in rates} == {float}
    images, mask = torch.randn(2, 3, 32, 32), torch.rand(2, 4, 4) > 0.5
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    torch.manual_seed(0)
    tokens = compiled(images, mask)[0]
    torch.manual_seed(0)
    torch.testing.assert_close(tokens, model(images, mask)[0])
