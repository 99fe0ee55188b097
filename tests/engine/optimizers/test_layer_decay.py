# Copyright (c) mmcim contributors. All rights reserved.
"""Learning-rate scale and weight decay of each parameter."""

import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmcim.engine import LayerDecayOptimWrapperConstructor

LR, WD, RATE = 1e-3, 0.05, 0.5
ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
VIT = dict(type='mmpretrain.VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
BEIT = dict(type='mmpretrain.FusedBEiTViT', arch=ARCH, img_size=32, patch_size=8)
RESNET = dict(
    type='mmpretrain.ResNet',
    depth=50,
    stem_channels=8,
    base_channels=8,
    out_indices=(0, 1, 2, 3),
)


def classifier(backbone, in_channels=16):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling') if in_channels != 16 else None,
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=3, in_channels=in_channels
        ),
    )


def upernet(backbone):
    bn = dict(type='BN')
    return dict(
        type='EncoderDecoder',
        backbone=dict(backbone, out_type='featmap', out_indices=[0, 1, 1, 2]),
        neck=dict(type='Feature2Pyramid', embed_dim=16, norm_cfg=bn),
        decode_head=dict(
            type='UPerHead',
            in_channels=[16] * 4,
            in_index=[0, 1, 2, 3],
            channels=8,
            num_classes=3,
            norm_cfg=bn,
        ),
        auxiliary_head=dict(
            type='FCNHead',
            in_channels=16,
            in_index=2,
            channels=8,
            num_convs=1,
            concat_input=False,
            num_classes=3,
            norm_cfg=bn,
        ),
        test_cfg=dict(mode='whole'),
    )


def build(cfg, scope='mmpretrain', **kwargs):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg)
        wrapper = dict(
            type='mmpretrain.AutoAmpOptimWrapper',
            optimizer=dict(type='AdamW', lr=LR, weight_decay=WD),
            constructor='mmpretrain.' + LayerDecayOptimWrapperConstructor.__name__,
            paramwise_cfg=dict(layer_decay_rate=RATE),
        )
        wrapper.update(kwargs)
        return model, build_optim_wrapper(model, wrapper).optimizer


def groups_of(model, optimizer):
    """Parameter name -> (learning rate / LR, weight decay)."""
    where = {
        id(param): (group['lr'] / LR, group['weight_decay'])
        for group in optimizer.param_groups
        for param in group['params']
    }
    count = sum(len(group['params']) for group in optimizer.param_groups)
    assert count == len(where)  # none of them twice
    return {name: where.pop(id(p), None) for name, p in model.named_parameters()}


def transformer_groups(layer_params, others, depth_of_head=4):
    """Expected values of a transformer of three layers."""
    expected = {}
    for i in range(3):
        for name, decays in layer_params.items():
            scale = RATE ** (depth_of_head - (i + 1))
            expected[f'backbone.layers.{i}.{name}'] = (scale, WD * decays)
    for name, (scale, decays) in others.items():
        expected[name] = (scale, WD * decays)
    return expected


VIT_LAYER = {
    'ln1.weight': 0,
    'ln1.bias': 0,
    'attn.qkv.weight': 1,
    'attn.qkv.bias': 0,
    'attn.proj.weight': 1,
    'attn.proj.bias': 0,
    'ln2.weight': 0,
    'ln2.bias': 0,
    'ffn.layers.0.0.weight': 1,
    'ffn.layers.0.0.bias': 0,
    'ffn.layers.1.weight': 1,
    'ffn.layers.1.bias': 0,
}
VIT_STEM = {
    'backbone.cls_token': (RATE**4, 0),
    'backbone.pos_embed': (RATE**4, 0),
    'backbone.patch_embed.projection.weight': (RATE**4, 1),
    'backbone.patch_embed.projection.bias': (RATE**4, 0),
    'backbone.ln1.weight': (1, 0),
    'backbone.ln1.bias': (1, 0),
}
BEIT_LAYER = {
    **{name: decays for name, decays in VIT_LAYER.items() if name != 'attn.qkv.bias'},
    'attn.q_bias': 0,
    'attn.v_bias': 0,
    'gamma_1': 0,
    'gamma_2': 0,
}
BEIT_STEM = {k: v for k, v in VIT_STEM.items() if 'pos_embed' not in k and 'ln1' not in k}
HEAD = {'head.fc.weight': (1, 1), 'head.fc.bias': (1, 0)}


def test_vit_classifier():
    groups = groups_of(*build(classifier(VIT)))
    assert groups == transformer_groups(VIT_LAYER, {**VIT_STEM, **HEAD})


def test_beit_classifier_with_bias_table_per_layer():
    groups = groups_of(*build(classifier(dict(BEIT, out_type='avg_featmap'))))
    layer = {**BEIT_LAYER, 'attn.relative_position_bias_table': 1}
    norm = {'backbone.ln2.weight': (1, 0), 'backbone.ln2.bias': (1, 0)}
    assert groups == transformer_groups(layer, {**BEIT_STEM, **norm, **HEAD})


def test_beit_classifier_with_shared_bias_table():
    shared = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
    cfg = classifier(dict(BEIT, **shared, out_type='cls_token', use_abs_pos_emb=True))
    others = {
        **BEIT_STEM,
        **HEAD,
        'backbone.pos_embed': (RATE**4, 0),
        'backbone.rel_pos_bias.relative_position_bias_table': (1, 1),
    }
    assert groups_of(*build(cfg)) == transformer_groups(BEIT_LAYER, others)


def test_upernet():
    pytest.importorskip('mmseg')
    model, optimizer = build(upernet(VIT), 'mmseg')
    groups = groups_of(model, optimizer)
    outside = {
        name: (1, WD if param.ndim > 1 else 0)
        for name, param in model.named_parameters()
        if not name.startswith('backbone.')
    }
    parts = {name.split('.')[0] for name in outside}
    assert parts == {'neck', 'decode_head', 'auxiliary_head'}
    assert groups == {**transformer_groups(VIT_LAYER, VIT_STEM), **outside}


def resnet50_depth(name):
    """Blocks of ResNet-50's stages and their depths, of six."""
    match = re.match(r'backbone\.layer(\d)\.(\d+)\.', name)
    if match is None:
        return 0
    stage, block = map(int, match.groups())
    return {
        1: [1, 1, 1],
        2: [2, 2, 3, 3],
        3: [4, 4, 4, 5, 5, 5],
        4: [6, 6, 6],
    }[stage][block]


def test_resnet_classifier():
    model, optimizer = build(classifier(RESNET, in_channels=256))
    groups = groups_of(model, optimizer)
    dims = {name: param.ndim for name, param in model.named_parameters()}
    expected = {
        name: (RATE ** (7 - resnet50_depth(name)), WD if dims[name] == 4 else 0)
        for name in dims
        if name.startswith('backbone.')
    }
    expected.update({k: (scale, WD * decays) for k, (scale, decays) in HEAD.items()})
    assert groups == expected
    assert len({scale for scale, _ in groups.values()}) == 8
    # Two groups for each depth, with and without weight decay.
    assert len(optimizer.param_groups) == 16


def test_stages_of_a_resnet():
    """ConvNeXt's: of 8 depths the stem has 0, stage i has i, the head 7."""
    options = dict(layer_decay_rate=RATE, stage_wise=True)
    model, optimizer = build(classifier(RESNET, in_channels=256), paramwise_cfg=options)
    for name, (scale, _) in groups_of(model, optimizer).items():
        stage = re.match(r'backbone\.layer(\d)', name)
        depth = int(stage[1]) if stage else 0 if name.startswith('backbone') else 7
        assert scale == RATE ** (7 - depth), name


def test_paramwise_multipliers_apply_on_top():
    options = dict(
        layer_decay_rate=RATE, custom_keys={'layers.1.attn.qkv': dict(lr_mult=0.1)}
    )
    model, optimizer = build(classifier(VIT), paramwise_cfg=options)
    groups = groups_of(model, optimizer)
    name = 'backbone.layers.1.attn.qkv.weight'
    assert groups[name] == (pytest.approx(0.1 * RATE**2), WD)


def test_step_uses_scaled_lr():
    """SGD moves each weight by its learning rate times its gradient."""
    model, optimizer = build(
        classifier(VIT), optimizer=dict(type='SGD', lr=LR, weight_decay=0.0)
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    optimizer.step()
    moved = {name: before[name] - p for name, p in model.named_parameters()}
    for name, scale in (('patch_embed.projection', 4), ('layers.0.ln1', 3), ('ln1', 0)):
        step = moved[f'backbone.{name}.bias']
        torch.testing.assert_close(
            step, torch.full_like(step, LR * RATE**scale), atol=2e-7, rtol=0
        )


def test_backbone_without_get_layer_depth_raises():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Linear(2, 2)

    cfg = dict(
        optimizer=dict(type='AdamW', lr=LR), paramwise_cfg=dict(layer_decay_rate=RATE)
    )
    constructor = LayerDecayOptimWrapperConstructor(cfg, cfg.pop('paramwise_cfg'))
    with pytest.raises(ValueError, match=r'get_layer_depth.*but Plain has none'):
        constructor(Plain())
    with pytest.raises(ValueError, match='but Linear has none'):
        constructor(nn.Linear(2, 2))


def test_resnet18_raises():
    with pytest.raises(ValueError, match='ResNet-50.*but ImageClassifier has none'):
        build(classifier(dict(type='mmpretrain.ResNet', depth=18), in_channels=512))


@pytest.mark.parametrize('rate', [None, 0, 1.5, '0.65'])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match=f'layer_decay_rate.*has {rate} and'):
        build(classifier(VIT), paramwise_cfg=dict(layer_decay_rate=rate))


def test_no_learning_rate():
    with pytest.raises(ValueError, match='optimizer.lr, but has .* and None'):
        build(classifier(VIT), optimizer=dict(type='AdamW'))
