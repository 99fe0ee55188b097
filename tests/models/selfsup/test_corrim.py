# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

ROWS = 4  # of the context's patches
WIDTH, DIMS, HEADS = 16, 16, 2


def corrim(backbone=None, channels=WIDTH, grid=(ROWS, ROWS), **kwargs):
    """A small CorrIM: contexts of 32 px, exemplars of 16 px, patches of 8 px."""
    arch = dict(embed_dims=WIDTH, num_layers=2, num_heads=2, feedforward_channels=32)
    vit = dict(
        type='MoCoV3ViT',
        arch=arch,
        img_size=48,
        patch_size=8,
        out_type='raw',
        stop_grad_conv1=True,
    )
    neck = dict(
        type='CorrelationDecoder',
        in_channels=channels,
        grid=grid,
        embed_dims=DIMS,
        num_heads=HEADS,
    )
    config = dict(
        type='CorrIM',
        backbone=backbone or vit,
        neck=neck,
        head=dict(type='CorrelationHead', in_channels=DIMS),
        data_preprocessor=dict(
            context_size=32, exemplars=dict(type='ExemplarSampling', num=3, size=16)
        ),
    )
    config.update(kwargs)
    return config


def build(config):
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model


def random_inputs(batch_size=2, num=3, context=32, exemplar=16):
    generator = torch.Generator().manual_seed(1)
    regions = torch.zeros(batch_size, num, context, context, dtype=torch.bool)
    for b in range(batch_size):
        for e in range(num):
            regions[b, e, 3 * e : 12 + 2 * b, 5 + b : 20 + 3 * e] = True
    return dict(
        context=torch.randn(batch_size, 3, context, context, generator=generator),
        exemplars=torch.randn(
            batch_size, num, 3, exemplar, exemplar, generator=generator
        ),
        regions=regions,
    )


@pytest.fixture
def model():
    model = build(corrim())
    # Different encoders, and parameters other than 0 and 1.
    torch.manual_seed(2)
    with torch.no_grad():
        for name, param in model.named_parameters():
            if 'pos_embed' not in name:
                param.add_(0.1 * torch.randn_like(param))
    return model


# The formulas of the paper


def layer_norm(x, norm):
    mean = sum(x) / len(x)
    var = sum((v - mean) ** 2 for v in x) / len(x)
    return (x - mean) / (var + 1e-6) ** 0.5 * norm.weight + norm.bias


def position(first, second):
    """Sines and cosines of both coordinates, at DIMS / 4 frequencies.

    The encoder's are those of the row and the column, the decoder's of column and row.
    """
    parts = []
    for where in (first, second):
        angles = [where / 10000 ** (k / (DIMS // 4)) for k in range(DIMS // 4)]
        parts += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(parts)


def correlate(neck, context, exemplar):
    """Tokens of a context and an exemplar -> normed tokens of the context's patches."""
    asking = [token @ neck.proj.weight.T + neck.proj.bias for token in context]
    for i in range(1, len(asking)):
        asking[i] = asking[i] + position(*divmod(i - 1, ROWS)[::-1])
    answers = [token @ neck.proj.weight.T + neck.proj.bias for token in exemplar]
    weights = neck.attn.in_proj_weight.split(DIMS)
    biases = neck.attn.in_proj_bias.split(DIMS)

    def project(tokens, part):
        normed = [layer_norm(token, neck.norm1) for token in tokens]
        return [x @ weights[part].T + biases[part] for x in normed]

    queries, keys, values = project(asking, 0), project(answers, 1), project(answers, 2)
    found = []
    for i in range(1, len(asking)):
        heads = []
        for part in torch.arange(DIMS).split(DIMS // HEADS):
            scores = [
                (queries[i][part] @ key[part]) / math.sqrt(DIMS // HEADS) for key in keys
            ]
            total = sum(score.exp() for score in scores)
            heads.append(sum(s.exp() / total * v[part] for s, v in zip(scores, values)))
        out = neck.attn.out_proj
        x = asking[i] + torch.cat(heads) @ out.weight.T + out.bias
        first, _, second = neck.mlp
        hidden = layer_norm(x, neck.norm2) @ first.weight.T + first.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + hidden @ second.weight.T + second.bias
        found.append(layer_norm(x, neck.norm3))
    return found


def upsample(cells, size):
    """Bilinear; the corners' centres coincide."""
    image = [[None] * size for _ in range(size)]
    for i in range(size):
        for j in range(size):
            y, x = (p * (ROWS - 1) / (size - 1) for p in (i, j))
            top, left = min(int(y), ROWS - 2), min(int(x), ROWS - 2)
            dy, dx = y - top, x - left
            image[i][j] = (
                (1 - dy) * (1 - dx) * cells[top * ROWS + left]
                + (1 - dy) * dx * cells[top * ROWS + left + 1]
                + dy * (1 - dx) * cells[(top + 1) * ROWS + left]
                + dy * dx * cells[(top + 1) * ROWS + left + 1]
            )
    return image


def plain_loss(model, inputs, objective):
    regions, size = inputs['regions'], inputs['context'].shape[-1]
    batch_size, num = regions.shape[:2]
    total, ious, right = 0, [], 0
    with torch.no_grad():
        (contexts,) = model.momentum_encoder.backbone(inputs['context'])
    for e in range(num):
        exemplar_loss = 0
        for b in range(batch_size):
            (tokens,) = model.backbone(inputs['exemplars'][b, e][None])
            maps = correlate(model.neck, contexts[b], tokens[0])
            conv = model.head.conv
            cells = [x @ conv.weight[:, :, 0, 0].T + conv.bias for x in maps]
            both = either = 0
            for i, row in enumerate(upsample(cells, size)):
                for j, (outside, inside) in enumerate(row):
                    y = int(regions[b, e, i, j])
                    p = 1 / (1 + (outside - inside).exp())
                    if objective == 'cross_entropy':
                        exemplar_loss = exemplar_loss - (p if y else 1 - p).log()
                    else:
                        exemplar_loss = exemplar_loss + (y - p).abs() ** 2 * (y - p) ** 2
                    said = int(p > 0.5)
                    right += said == y
                    both, either = both + (said and y), either + (said or y)
            ious.append(both / either)
        total = total + exemplar_loss / (batch_size * size**2)
    return total, dict(
        iou=sum(ious) / len(ious), pixel_acc=right / (batch_size * num * size**2)
    )


@pytest.mark.parametrize('objective', ['cross_entropy', 'focal_mse'])
def test_loss_and_gradients_match_formula(model, objective):
    model.head.objective = objective
    inputs = random_inputs()
    log = model(inputs, mode='loss')
    learnt = {k: p for k, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(log['loss_corr'], learnt.values())
    expected, watched = plain_loss(model, inputs, objective)
    torch.testing.assert_close(log['loss_corr'], expected, atol=0, rtol=1e-4)
    for name, value in watched.items():
        assert log[name].item() == pytest.approx(value, abs=1e-5), name
    assert 0.05 < watched['iou'] < 0.95
    fraction = inputs['regions'].float().mean().item()
    assert log['pixel_base_acc'].item() == pytest.approx(max(fraction, 1 - fraction))
    plain = torch.autograd.grad(expected, learnt.values())
    for name, grad, other in zip(learnt, found, plain):
        torch.testing.assert_close(grad, other, atol=2e-5, rtol=1e-3, msg=name)


def test_trainable_parameters(model):
    log = model(random_inputs(), mode='loss')
    log['loss_corr'].backward()
    fixed = {k for k, p in model.named_parameters() if p.grad is None}
    online = {k for k in fixed if not k.startswith('momentum_encoder.')}
    patches = {f'backbone.patch_embed.projection.{x}' for x in ('weight', 'bias')}
    assert online == {'backbone.pos_embed', *patches}
    followers = {k for k, _ in model.momentum_encoder.named_parameters()}
    names = {k for k, _ in model.backbone.named_parameters()}
    assert followers == {f'backbone.{name}' for name in names}
    assert all(not model.get_parameter(name).requires_grad for name in fixed)
    for name, param in model.named_parameters():
        assert (name in fixed) or param.grad.abs().max() > 0, name


def test_position_embedding_is_sin_cos_at_every_size(model):
    """Bicubic interpolation from 6 x 6 patches of the full image to 4 x 4 and 2 x 2."""
    table = torch.stack([position(r, c) for r in range(6) for c in range(6)])
    torch.testing.assert_close(model.backbone.pos_embed[0, 1:], table)
    assert (model.backbone.pos_embed[0, 0] == 0).all()
    for side in (4, 2):
        seen = []
        hook = model.backbone.layers[0].register_forward_pre_hook(
            lambda module, args: seen.append(args[0])  # noqa: B023
        )
        images = torch.zeros(1, 3, 8 * side, 8 * side)
        model.backbone(images)
        hook.remove()
        tokens = seen[0][0, 1:] - model.backbone.patch_embed.projection.bias
        expected = torch.nn.functional.interpolate(
            table.T.reshape(1, DIMS, 6, 6), (side, side), mode='bicubic'
        )
        torch.testing.assert_close(tokens, expected[0].flatten(1).T)


def test_rectangular_context():
    """2 x 3 patches; without both branches, tokens and position embeddings remain."""
    torch.manual_seed(0)
    config = corrim(grid=(2, 3))['neck']
    neck = MODELS.build(config)
    for last in (neck.attn.out_proj, neck.mlp[-1]):
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    context, exemplars = torch.randn(1, 1 + 6, WIDTH), torch.randn(1, 1, 5, WIDTH)
    maps = neck(context, exemplars)
    assert maps.shape == (1, 1, DIMS, 2, 3)
    for row in range(2):
        for column in range(3):
            token = neck.proj(context[0, 1 + 3 * row + column]) + position(column, row)
            expected = layer_norm(token, neck.norm3)
            torch.testing.assert_close(maps[0, 0, :, row, column], expected)


def test_targets_come_from_momentum_encoder(model):
    inputs = random_inputs()
    shared = model.momentum_encoder.backbone
    assert shared.cls_token is model.backbone.cls_token
    assert shared.pos_embed is model.backbone.pos_embed
    before = model(inputs, mode='loss')['loss_corr']
    with torch.no_grad():
        shared.layers[0].ffn.layers[1].weight.mul_(-3)
    assert (model(inputs, mode='loss')['loss_corr'] - before).abs() > 1e-4


def test_momentum_encoder_follows_online_encoder(model):
    start = {k: v.clone() for k, v in model.state_dict().items()}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(
            model,
            dict(
                type='AutoAmpOptimWrapper',
                constructor='NetworkwiseOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05),
            ),
        )
    images = torch.randint(256, (2, 3, 48, 48), dtype=torch.uint8)
    model.train_step(dict(inputs=images), optim)
    assert model.momentum_encoder.update(model, 0, num_steps=100) == pytest.approx(0.99)
    after = model.state_dict()
    for name, value in after.items():
        if not name.startswith('momentum_encoder.backbone.'):
            continue
        online = name.removeprefix('momentum_encoder.')
        if name.endswith(('cls_token', 'pos_embed')):
            assert value.equal(after[online])
        else:
            expected = 0.99 * start[name] + 0.01 * after[online]
            torch.testing.assert_close(value, expected, msg=name)
    assert not after['backbone.cls_token'].equal(start['backbone.cls_token'])
    for name in ('patch_embed.projection.weight', 'pos_embed'):
        assert after[f'backbone.{name}'].equal(start[f'backbone.{name}']), name


def test_momentum_schedule():
    encoder = build(corrim(momentum=0.9, end_momentum=0.95)).momentum_encoder
    found = [encoder.coefficient(step, 10) for step in (0, 5, 10)]
    assert found == pytest.approx([0.9, 0.925, 0.95])
    encoder = build(corrim()).momentum_encoder
    assert (encoder.coefficient(0, 10), encoder.coefficient(10, 10)) == (0.99, 1)


@pytest.mark.parametrize('weights', ['released', 'mocov3'])
def test_both_encoders_start_equal(weights):
    model = build(corrim(initial_weights=weights))
    for name, param in model.backbone.named_parameters():
        assert param.equal(model.momentum_encoder.backbone.get_parameter(name)), name


STARTS = {
    # The encoder's queries, keys and values; its class token; in the decoder's attention
    # queries, keys and values; the head.
    'released': (0.0361, 0.02, 0.0442, 0.0361, 1.0),
    'mocov3': (0.0510, 1e-6, 0.0313, 0.0313, 0.0255),
}


@pytest.mark.parametrize('name', STARTS)
def test_initial_weights(name):
    """Standard deviations for a ViT-S, whose queries, keys and values are one matrix."""
    config = corrim(channels=384, initial_weights=name)
    config['backbone']['arch'] = dict(
        embed_dims=384, num_layers=1, num_heads=6, feedforward_channels=384
    )
    config['neck'].update(embed_dims=512, num_heads=16)
    config['head']['in_channels'] = 512
    model = build(config)
    attention = model.neck.attn.in_proj_weight
    found = [
        model.backbone.layers[0].attn.qkv.weight,
        model.backbone.cls_token,
        attention[:512],
        attention[512:],
        model.head.conv.weight,
    ]
    assert [x.std().item() for x in found] == pytest.approx(STARTS[name], rel=0.1)
    with pytest.raises(ValueError, match="'released' or 'mocov3'"):
        MODELS.build(corrim(initial_weights='other'))


def test_pretrained_encoder_stays_as_it_is(tmp_path):
    before = build(corrim()).backbone.state_dict()
    torch.save(before, tmp_path / 'x.pth')
    config = corrim()
    config['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'x.pth')
    )
    torch.manual_seed(1)
    model = MODELS.build(config)
    model.init_weights()
    assert model.backbone.layers[0].attn.qkv.weight.equal(
        before['layers.0.attn.qkv.weight']
    )
    assert model.backbone.cls_token.equal(before['cls_token'])


def test_decoder_positions_are_saved(model):
    assert model.state_dict()['neck.positions'].shape == (1, ROWS**2, DIMS)


def test_cnn_encoder():
    resnet = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
    model = build(corrim(resnet, channels=64, grid=(2, 2)))
    inputs = random_inputs(context=64, exemplar=32)
    log = model(inputs, mode='loss')
    log['loss_corr'].backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    statistics = [b for k, b in model.named_buffers() if k.endswith('running_mean')]
    assert all(b.abs().max() > 0 for b in statistics)  # each encoder's own
    (features,) = model.extract_feat(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, 64, 2, 2)


def test_features_come_from_online_encoder(model):
    images = torch.randn(2, 3, 48, 48)
    expected = model.backbone(images)[0]
    assert model.extract_feat(dict(images=images))[0].equal(expected)
    assert model(images)[0].equal(expected)
    assert model.backbone_prefix == 'backbone.'


def test_mismatched_parts_raise():
    model = build(corrim(grid=(3, 3)))
    with pytest.raises(ValueError, match=r'17, \d+\).*model\.neck\.grid'):
        model(random_inputs(), mode='loss')
    config = corrim()
    config['backbone']['out_type'] = 'cls_token'
    with pytest.raises(ValueError, match="out_type='raw'"):
        build(config)(random_inputs(), mode='loss')
    with pytest.raises(ValueError, match='focal_mse'):
        MODELS.build(dict(type='CorrelationHead', objective='dice'))


@pytest.mark.parametrize('key, change', [
    ('context_size', dict(context_size=30)),
    ('exemplars.size', dict(exemplars=dict(type='ExemplarSampling', size=18))),
])  # fmt: skip
def test_sizes_must_be_multiples_of_patch_size(key, change):
    config = corrim()
    config['data_preprocessor'] = {**config['data_preprocessor'], **change}
    with pytest.raises(ValueError, match=f'{key}.* multiples of .*patch_size=8'):
        MODELS.build(config)


def test_two_crops_raise():
    """Exemplars of one crop would get segmentation maps of another."""
    preprocessor = build(corrim()).data_preprocessor
    crops = torch.randint(256, (2, 2, 3, 48, 48), dtype=torch.uint8)
    with pytest.raises(TypeError, match='must be uint8, .* not list of shape'):
        preprocessor(dict(inputs=list(crops)), training=True)
