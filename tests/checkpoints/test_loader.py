# Copyright (c) mmcim contributors. All rights reserved.
"""What is found in files of all kinds, and what is said when it is not there."""

import json
import re
from argparse import Namespace

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from mmcim.checkpoints import load_into, save_backbone
from mmcim.checkpoints.resize import resize_relative_position_table
from mmcim.utils import ConfigError

from .conftest import arrived, build, resnet, vit

SHARED = dict(use_shared_rel_pos_bias=True, use_rel_pos_bias=False)
TABLE = 'relative_position_bias_table'


def pretraining(tmp_path, enhancer=None, generator=None, meta=None, name='cim.pth'):
    """Write a checkpoint with the names of CIM's; give its path and state dict."""
    torch.manual_seed(1)
    parts = {
        'enhancer.backbone.': build(enhancer or vit()),
        'enhancer.neck.': nn.Linear(32, 3),
        'generator.backbone.': build(generator or vit('FusedBEiTViT')),
        'generator.head.': nn.Linear(32, 16),
    }
    state = {
        prefix + key: value
        for prefix, part in parts.items()
        for key, value in part.state_dict().items()
    }
    torch.save(
        dict(
            state_dict=state,
            meta={'epoch': 1, **(meta or {})},
            message_hub={},
            optimizer=dict(state={0: dict(exp_avg=torch.zeros(3))}),
        ),
        tmp_path / name,
    )
    return str(tmp_path / name), state


def own_file(tmp_path, model, grid='[4, 4]'):
    path = tmp_path / 'epoch_1_backbone.safetensors'
    metadata = dict(backbone='{}', grid=grid)
    save_backbone(path, model.state_dict(), metadata)
    return path


def test_found_by_looking(tmp_path, log):
    """Only one of the networks in the file has all tensors."""
    path, state = pretraining(tmp_path)
    model = build(vit())
    report = load_into(model, path)
    assert arrived(model, state, 'enhancer.backbone.') == set(model.state_dict())
    assert report.prefix == 'enhancer.backbone.'
    assert set(report.matched) == set(model.state_dict())
    assert (report.total, report.missing, report.new) == (30, [], [])
    assert report.elsewhere == dict(enhancer=2, generator=37)
    assert log == [str(report)]
    assert str(report) == (
        f'Backbone weights: 30 of 30 tensors matched from {path}, '
        'prefix enhancer.backbone.; unused: none; elsewhere in the file: '
        'enhancer 2, generator 37.'
    )


@pytest.mark.parametrize('prefix', ['generator.backbone', 'generator.backbone.'])
def test_prefix_decides(tmp_path, prefix):
    meta = dict(backbone_prefix='enhancer.backbone.')
    path, state = pretraining(tmp_path, generator=vit(), meta=meta)
    model = build(vit())
    assert load_into(model, path, prefix).prefix == 'generator.backbone.'
    assert arrived(model, state, 'generator.backbone.') == set(model.state_dict())


def test_file_decides_between_twins(tmp_path):
    meta = dict(backbone_prefix='enhancer.backbone.')
    path, state = pretraining(tmp_path, generator=vit(), meta=meta)
    model = build(vit())
    assert load_into(model, path).prefix == 'enhancer.backbone.'
    assert arrived(model, state, 'enhancer.backbone.') == set(model.state_dict())


def test_twins_without_a_word_are_an_error(tmp_path):
    path, _ = pretraining(tmp_path, generator=vit())
    model = build(vit())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        ConfigError,
        match='cim.pth has 2 networks that are a VisionTransformer like this one.* '
        "prefix, one of 'enhancer.backbone.', 'generator.backbone.'",
    ):
        load_into(model, path)
    assert arrived(model, before) == set(before)


@pytest.mark.parametrize('container', ['state_dict', 'model', 'module', None])
def test_containers(tmp_path, container):
    source = build(vit())
    state = source.state_dict()
    content = {container: state, 'epoch': 3} if container else state
    torch.save(content, tmp_path / 'x.pth')
    model = build(vit())
    assert load_into(model, tmp_path / 'x.pth').prefix == ''
    assert arrived(model, state) == set(state)


def test_plain_files_of_ours_and_others(tmp_path):
    source = build(vit())
    save_file(source.state_dict(), tmp_path / 'foreign.safetensors')
    for path in (own_file(tmp_path, source), tmp_path / 'foreign.safetensors'):
        model = build(vit())
        load_into(model, path)
        assert arrived(model, source.state_dict()) == set(source.state_dict())


def test_weights_in_half_precision_become_the_modules(tmp_path):
    source = build(vit())
    torch.save({k: v.half() for k, v in source.state_dict().items()}, tmp_path / 'h.pth')
    model = build(vit())
    load_into(model, tmp_path / 'h.pth')
    assert model.pos_embed.dtype == torch.float32
    assert torch.equal(model.pos_embed, source.pos_embed.half().float())


# --------------------------------------------------------------------------------------
# Positions


@pytest.mark.parametrize('img_size', [(64, 64), (48, 80), (16, 24)])
def test_position_embeddings_are_resized(tmp_path, img_size, log):
    path, state = pretraining(tmp_path)
    model = build(vit(img_size=img_size))
    report = load_into(model, path)
    grid = [side // 8 for side in img_size]
    old = state['enhancer.backbone.pos_embed']
    assert torch.equal(model.pos_embed, resample_abs_pos_embed(old, grid, [4, 4]))
    count = grid[0] * grid[1] + 1
    assert report.resized == dict(pos_embed=(17, count))
    assert f'30 of 30 tensors matched (1 resized: pos_embed 17 -> {count})' in log[0]


@pytest.mark.parametrize('kind', ['own', 'checkpoint', 'argument'])
def test_rectangular_sources(tmp_path, kind):
    """A rectangle is told by our files, else by the caller."""
    source = build(vit(img_size=(16, 64)))  # 2 x 8 patches, as many as 4 x 4
    state, grid = source.state_dict(), None
    if kind == 'own':
        path = own_file(tmp_path, source, grid='[2, 8]')
    elif kind == 'checkpoint':
        meta = dict(backbone_prefix='', backbone_grid=(2, 8))
        torch.save(dict(state_dict=state, meta=meta), path := tmp_path / 'x.pth')
    else:
        torch.save(state, path := tmp_path / 'x.pth')
        grid = (2, 8)
    model = build(vit(img_size=(32, 32)))
    report = load_into(model, path, grid=grid)
    # By torch: timm before 1.0.31 leaves as many patches of a square alone.
    old = source.pos_embed[:, 1:].mT.unflatten(2, (2, 8))
    expected = F.interpolate(old, (4, 4), mode='bicubic', antialias=True)
    found = model.pos_embed[:, 1:].mT.unflatten(2, (4, 4))
    torch.testing.assert_close(found, expected)
    assert report.resized == dict(pos_embed=(17, 17))  # the same number, resized


def test_rectangle_that_nobody_tells(tmp_path):
    """16 positions may be 4 x 4 or the module's own 2 x 8."""
    torch.save(build(vit()).state_dict(), tmp_path / 'x.pth')
    model = build(vit(img_size=(16, 64)))
    with pytest.raises(
        ConfigError,
        match=r'may be of 4 x 4 or of 2 x 8 patches; .*grid=\(rows, columns\)',
    ):
        load_into(model, tmp_path / 'x.pth')
    load_into(model, tmp_path / 'x.pth', grid=(4, 4))
    source = build(vit(img_size=(24, 40)))  # 15 is no square
    torch.save(source.state_dict(), tmp_path / 'y.pth')
    with pytest.raises(ConfigError, match='or say which rectangle of patches it was'):
        load_into(model, tmp_path / 'y.pth')
    # Of the same rectangle there is nothing to ask.
    load_into(build(vit(img_size=(24, 40))), tmp_path / 'y.pth')


@pytest.mark.parametrize(
    ('count', 'text'),
    [
        (16, '16 position embeddings are 4 x 4 patches and 0 other tokens, but the '
         r'network has 1 other token; .* \(mmpretrain\'s DeiT3 has 0'),
        (18, '18 position embeddings are 4 x 4 patches and 2 other tokens'),
        (21, '21 position embeddings are 4 x 4 patches and 5 other tokens'),
        (48, r'48 .* not of a square of patches; .* rectangle it was by grid=\(rows'),
    ],
)  # fmt: skip
def test_positions_of_other_tokens(tmp_path, count, text):
    """Of a class token without a position, of distillation, of registers."""
    state = build(vit()).state_dict()
    state['pos_embed'] = torch.zeros(1, count, 32)
    torch.save(state, tmp_path / 'x.pth')
    for img_size in (32, 64):
        assert re.search(text, message(build(vit(img_size=img_size)), tmp_path / 'x.pth'))


def test_class_token_that_the_module_does_without(tmp_path):
    path, state = pretraining(tmp_path)
    model = build(vit(with_cls_token=False, img_size=48))
    report = load_into(model, path)
    old = state['enhancer.backbone.pos_embed']
    expected = resample_abs_pos_embed(old, [6, 6], [4, 4])[:, 1:]
    assert torch.equal(model.pos_embed, expected)
    assert report.unused == ['cls_token']


@pytest.mark.parametrize('img_size', [32, (48, 80)])
@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('wants_shared', [True, False])
def test_relative_positions(tmp_path, shared, wants_shared, img_size, log):
    source = build(vit('FusedBEiTViT', **(SHARED if shared else {})))
    state = source.state_dict()
    if not shared and wants_shared:
        state[f'layers.1.attn.{TABLE}'].copy_(state[f'layers.0.attn.{TABLE}'])
    torch.save(state, tmp_path / 'x.pth')
    model = build(vit('FusedBEiTViT', img_size, **(SHARED if wants_shared else {})))
    indices = {k: v.clone() for k, v in model.state_dict().items() if 'index' in k}
    report = load_into(model, tmp_path / 'x.pth')

    grid = (4, 4) if img_size == 32 else (6, 10)
    for i in range(2):
        ours = 'rel_pos_bias.' if wants_shared else f'layers.{i}.attn.'
        theirs = 'rel_pos_bias.' if shared else f'layers.{i}.attn.'
        expected = resize_relative_position_table(state[theirs + TABLE], (4, 4), grid)
        assert torch.equal(model.state_dict()[ours + TABLE], expected)
    # Index buffers are the module's own.
    assert arrived(model, indices) == set(indices)
    converted = {
        (True, False): 'shared relative positions copied to 2 layers',
        (False, True): 'equal relative positions of 2 layers shared',
    }.get((shared, wants_shared), '')
    assert report.converted == converted and converted in log[0]
    if grid != (4, 4):
        name = f'rel_pos_bias.{TABLE}' if wants_shared else f'layers.0-1.attn.{TABLE}'
        assert f'{name} 52 -> 212' in log[0]
    assert not report.unused and not report.missing


def test_layers_that_differ_cannot_share(tmp_path):
    torch.save(build(vit('FusedBEiTViT')).state_dict(), tmp_path / 'x.pth')
    model = build(vit('FusedBEiTViT', **SHARED))
    with pytest.raises(ConfigError, match='that of layer 1 is not that of layer 0'):
        load_into(model, tmp_path / 'x.pth')


def test_relative_positions_of_a_rectangle(tmp_path):
    source = build(vit('FusedBEiTViT', (16, 40), **SHARED))
    torch.save(source.state_dict(), tmp_path / 'x.pth')
    model = build(vit('FusedBEiTViT', (40, 16), **SHARED))
    with pytest.raises(ConfigError, match='30 relative positions are not of a square'):
        load_into(build(vit('FusedBEiTViT', **SHARED)), tmp_path / 'x.pth')
    load_into(model, tmp_path / 'x.pth', grid=(2, 5))
    table = source.rel_pos_bias.relative_position_bias_table
    expected = resize_relative_position_table(table, (2, 5), (5, 2))
    assert torch.equal(model.rel_pos_bias.relative_position_bias_table, expected)


@pytest.mark.parametrize('window', [4, 3])
def test_swin(tmp_path, window):
    """Its windows are no patches of the picture; index and mask are its own."""

    def swin(window):
        arch = dict(embed_dims=8, depths=[2, 2], num_heads=[2, 2])
        return build(
            dict(
                type='SwinTransformer',
                arch=arch,
                img_size=64,
                window_size=window,
                out_indices=(1,),
            )
        )

    source, model = swin(4), swin(window)
    meta = dict(backbone_prefix='', backbone_grid=(16, 16))
    content = dict(state_dict=source.state_dict(), meta=meta)
    torch.save(content, tmp_path / 'x.pth')
    report = load_into(model, tmp_path / 'x.pth')
    assert set(report.resized.values()) == (set() if window == 4 else {(49, 25)})
    if window == 4:
        model.eval(), source.eval()
        images = torch.randn(1, 3, 64, 64)
        assert torch.equal(model(images)[0], source(images)[0])


# --------------------------------------------------------------------------------------
# Other libraries


@pytest.mark.parametrize('wrapper', [None, 'model', 'module'])
def test_timm_vit(tmp_path, wrapper):
    torch.manual_seed(0)
    theirs = timm.create_model(
        'vit_tiny_patch16_224',
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2,
        num_classes=5, global_pool='token',
    ).eval()  # fmt: skip
    state = theirs.state_dict()
    torch.save({wrapper: state} if wrapper else state, tmp_path / 'timm.pth')
    ours = build(vit())
    report = load_into(ours, tmp_path / 'timm.pth')
    ours.eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = theirs.forward_features(images)[:, 1:]
    features = ours(images)[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(features, tokens, atol=1e-5, rtol=1e-5)
    assert report.unused == ['head.weight', 'head.bias']


def test_mae_with_its_decoder(tmp_path):
    """MAE's encoder is at the top, beside decoder_blocks."""
    names = timm.create_model(
        'vit_tiny_patch16_224',
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2,
        num_classes=0,
    ).state_dict()  # fmt: skip
    decoder = {'decoder_pos_embed': torch.ones(1), 'decoder_blocks.0.a': torch.ones(1)}
    torch.save(dict(model={**names, **decoder}), tmp_path / 'mae.pth')
    report = load_into(build(vit()), tmp_path / 'mae.pth')
    assert report.unused == list(decoder) and report.total == 30


def test_beit_from_timm(tmp_path):
    """Per-layer tables, q and v biases and layer scales have their places."""
    torch.manual_seed(0)
    theirs = timm.create_model(
        'beit_base_patch16_224',
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2,
        num_classes=0, init_values=0.1, global_pool='',
    ).eval()  # fmt: skip
    for value in theirs.parameters():
        value.data.normal_(std=0.3)
    torch.save(dict(module=theirs.state_dict()), tmp_path / 'beit.pth')
    ours = build(vit('FusedBEiTViT', final_norm=True))
    load_into(ours, tmp_path / 'beit.pth')
    ours.eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = theirs.norm(theirs.forward_features(images))[:, 1:]
    if not isinstance(theirs.norm, nn.Identity):
        tokens = theirs.forward_features(images)[:, 1:]
    features = ours(images)[0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(features, tokens, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    'below', ['', 'enhancer.backbone.', 'enhancer.backbone.timm_model.']
)
def test_timm_backbone(tmp_path, below):
    """Of timm, of a pre-training, and through the wrapper."""
    config = dict(type='TIMMBackbone', model_name='resnet18', features_only=True)
    source = build(config).timm_model.state_dict()
    inner = '' if below == '' or below.endswith('timm_model.') else 'timm_model.'
    meta = dict(backbone_prefix='enhancer.backbone.') if below else {}
    state = {below + inner + k: v for k, v in source.items()}
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'x.pth')
    model = build(config)
    report = load_into(model, tmp_path / 'x.pth')
    assert arrived(model.timm_model, source) == set(source)
    assert report.total == 20 * (1 + 5)  # convolutions and their norms
    assert all(name.startswith('timm_model.') for name in report.matched)


def test_resnet_with_its_statistics(tmp_path):
    path, state = pretraining(tmp_path, enhancer=resnet())
    counters = [key for key in state if key.endswith('num_batches_tracked')]
    model = build(resnet())
    report = load_into(model, path)
    assert arrived(model, state, 'enhancer.backbone.') == set(model.state_dict())
    # Old checkpoints of torchvision have no counters; but statistics they must have.
    for key in counters:
        del state[key]
    state['enhancer.backbone.fc.weight'] = torch.zeros(3)
    torch.save(state, tmp_path / 'old.pth')
    report = load_into(model, tmp_path / 'old.pth')
    assert len(report.missing) == len(counters) == 20
    assert report.unused == ['fc.weight']
    del state['enhancer.backbone.layer2.1.bn1.running_var']
    torch.save(state, tmp_path / 'old.pth')
    with pytest.raises(ConfigError, match='missing: layer2.1.bn1.running_var\n'):
        load_into(model, tmp_path / 'old.pth')


# --------------------------------------------------------------------------------------
# Fine-tuning: what is new, and whole models


@pytest.mark.parametrize('type', ['VisionTransformer', 'FusedBEiTViT'])
def test_norm_of_the_mean_is_new(tmp_path, type, log):
    source = build(vit(type))
    torch.save(source.state_dict(), tmp_path / 'x.pth')
    model = build(vit(type, out_type='avg_featmap'))
    before = model.ln2.weight.clone()
    report = load_into(model, tmp_path / 'x.pth')
    assert report.new == ['ln2.weight', 'ln2.bias']
    assert 'new, because of out_type: ln2.weight, ln2.bias' in log[0]
    assert torch.equal(model.ln2.weight, before)
    assert arrived(model, source.state_dict()) >= set(source.state_dict())
    # A classifier's checkpoint has it, and then it is loaded.
    model.ln2.weight.data.fill_(0.25)
    torch.save(model.state_dict(), tmp_path / 'y.pth')
    again = build(vit(type, out_type='avg_featmap'))
    assert load_into(again, tmp_path / 'y.pth').new == []
    assert torch.equal(again.ln2.weight, model.ln2.weight)


def classifier(classes=3):
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=32)
    backbone = vit(out_type='avg_featmap')
    return build(dict(type='ImageClassifier', backbone=backbone, head=head))


def test_whole_classifier_from_a_pretraining(tmp_path):
    """Its backbone has to be there, its head is only told to be missing."""
    meta = dict(backbone_prefix='enhancer.backbone.')
    path, state = pretraining(tmp_path, generator=vit(), meta=meta)
    model = classifier()
    report = load_into(model, path)
    assert len(arrived(model.backbone, state, 'enhancer.backbone.')) == report.total == 30
    assert report.missing == ['head.fc.weight', 'head.fc.bias']
    assert report.new == ['backbone.ln2.weight', 'backbone.ln2.bias']
    assert report.elsewhere == dict(enhancer=2, generator=32)


def test_whole_classifier_from_a_plain_backbone(tmp_path):
    source = build(vit())
    model = classifier()
    report = load_into(model, own_file(tmp_path, source))
    assert len(arrived(model.backbone, source.state_dict())) == report.total == 30
    assert report.missing == ['head.fc.weight', 'head.fc.bias']


@pytest.mark.parametrize('classes', [3, 7])
def test_whole_classifier_from_a_classifier(tmp_path, classes):
    source = classifier(classes)
    meta = dict(backbone_prefix='backbone.')
    content = dict(state_dict=source.state_dict(), meta=meta)
    torch.save(content, tmp_path / 'x.pth')
    model = classifier(3)
    report = load_into(model, tmp_path / 'x.pth')
    head = {'head.fc.weight', 'head.fc.bias'}
    same = arrived(model, source.state_dict())
    assert same == set(source.state_dict()) - (head if classes == 7 else set())
    assert set(report.missing) == (head if classes == 7 else set())
    assert report.total == 32 and len(report.matched) == (32 if classes == 7 else 34)


def test_other_modules_are_required_as_a_whole(tmp_path):
    path, state = pretraining(tmp_path)
    model = nn.Linear(32, 3)
    load_into(model, path, 'enhancer.neck')
    assert arrived(model, state, 'enhancer.neck.') == {'weight', 'bias'}
    with pytest.raises(ConfigError, match='1 of 2 .*\n.*weight'):
        load_into(nn.Linear(16, 3), path, 'enhancer.neck')


# --------------------------------------------------------------------------------------
# Errors


def message(model, path, *args):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        load_into(model, path, *args)
    assert arrived(model, before) == set(before)  # nothing was loaded
    return str(error.value)


def test_deeper_and_shallower(tmp_path):
    path, _ = pretraining(tmp_path)
    deeper = message(build(vit(arch=dict(num_layers=3))), path)
    assert "30 of 42 tensors match, at best, with prefix 'enhancer.backbone.'" in deeper
    assert 'missing: layers.2.ln1.weight, layers.2.ln1.bias, ' in deeper
    assert len(re.findall(r' layers\.2\.', deeper)) == 12
    assert 'config (type, arch, patch_size, ...)' in deeper
    shallower = message(build(vit(arch=dict(num_layers=1))), path)
    assert (
        'more layers in the file; the last one of the module is layers.0: ' in shallower
    )
    assert len(re.findall(r' layers\.1\.', shallower)) == 12
    # A network without its last stage is used so for segmentation.
    path, _ = pretraining(tmp_path, enhancer=resnet())
    stages = dict(num_stages=3, out_indices=(2,), strides=(1, 2, 2), dilations=(1, 1, 1))
    report = load_into(build(resnet(**stages)), path)
    assert {name.split('.')[0] for name in report.unused} == {'layer4'}


def test_wider(tmp_path):
    path, _ = pretraining(tmp_path)
    text = message(build(vit(arch=dict(embed_dims=64))), path)
    assert '2 of 30 tensors match' in text
    assert 'of shape (1, 17, 32) instead of (1, 17, 64): pos_embed' in text
    assert (
        'of shape (32) instead of (64): patch_embed.projection.bias, layers.0-1.' in text
    )


LAYER = r'layers\.0-1\.'
BEIT_SHARED = vit('FusedBEiTViT', **SHARED)


@pytest.mark.parametrize(
    ('trained', 'other', 'names'),
    [
        (BEIT_SHARED, vit('FusedBEiTViT', use_rel_pos_bias=False),
         rf'rel_pos_bias\.{TABLE}'),
        (vit('FusedBEiTViT'), vit('FusedBEiTViT', use_rel_pos_bias=False),
         rf'{LAYER}attn\.{TABLE}'),
        (BEIT_SHARED, vit('FusedBEiTViT', layer_scale_init_value=0),
         rf'{LAYER}gamma_1, {LAYER}gamma_2'),
        (vit(layer_scale_init_value=0.1), vit(),
         rf'{LAYER}attn\.gamma1\.weight, {LAYER}ffn\.gamma2\.weight'),
        (vit(), vit(qkv_bias=False), rf'{LAYER}attn\.qkv\.bias'),
        (vit(pre_norm=True, patch_cfg=dict(bias=True)), vit(),
         r'pre_norm\.\w+, pre_norm\.\w+'),
        (vit('FusedBEiTViT', use_abs_pos_emb=True), vit('FusedBEiTViT'), 'pos_embed'),
    ],
    ids=[
        'shared positions', 'positions', 'scales of a BEiT', 'scales', 'bias', 'norm',
        'absolute positions',
    ],
)  # fmt: skip
@pytest.mark.parametrize('own', [True, False])
def test_what_the_files_network_computes_with(tmp_path, trained, other, names, own):
    source, path = build(trained), tmp_path / 'x.pth'
    if own:
        path = own_file(tmp_path, source)
    else:
        torch.save(source.state_dict(), path)
    text = message(build(other), path)
    assert re.search(
        rf'has more than the weights of a (\w+): (\d+) of \2 .*\n.* {names}', text
    )
    assert 'in the file, but not in the module: ' in text


def test_norms_of_queries_and_keys(tmp_path):
    theirs = timm.create_model(
        'vit_tiny_patch16_224',
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2,
        qk_norm=True,
    ).state_dict()  # fmt: skip
    torch.save(theirs, tmp_path / 'x.pth')
    text = message(build(vit()), tmp_path / 'x.pth')
    assert 'in the file, but not in the module: layers.0-1.attn.q_norm.weight' in text
    assert 'head' not in text.split('\n')[1]


def test_what_has_no_effect_may_be_dropped(tmp_path):
    """A mask token, the norm of another pooling, heads, decoders, zero biases."""
    state = build(vit('FusedBEiTPretrainViT', **SHARED)).state_dict()
    more = ('layers.0.attn.k_bias', 'decoder_blocks.0.attn.qkv.weight', 'head.fc.weight')
    torch.save({**state, **{name: torch.zeros(32) for name in more}}, tmp_path / 'x.pth')
    model = build(vit('FusedBEiTViT', final_norm=False, **SHARED))
    report = load_into(model, tmp_path / 'x.pth')
    assert set(report.unused) == {'mask_token', 'ln1.weight', 'ln1.bias', *more}


def test_last_stages_may_be_dropped_but_nothing_within(tmp_path):
    config = resnet(
        num_stages=3, out_indices=(2,), strides=(1, 2, 2), dilations=(1, 1, 1)
    )
    state = build(resnet()).state_dict()
    state['layer3.0.extra.weight'] = torch.zeros(2)
    torch.save(state, tmp_path / 'x.pth')
    text = message(build(config), tmp_path / 'x.pth')
    assert 'not in the module: layer3.0.extra.weight\n' in text


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_values_that_are_no_numbers(tmp_path, value):
    state = build(vit()).state_dict()
    for name in ('layers.0.ln1.weight', 'layers.1.ln1.weight'):
        state[name][3] = value
    torch.save(state, tmp_path / 'x.pth')
    text = message(build(vit()), tmp_path / 'x.pth')
    assert text.endswith('x.pth has infinite values or NaN in layers.0-1.ln1.weight')


def test_integers_are_no_weights(tmp_path):
    state = build(vit()).state_dict()
    state['ln1.bias'] = state['ln1.bias'].to(torch.int8)
    torch.save(state, tmp_path / 'x.pth')
    text = message(build(vit()), tmp_path / 'x.pth')
    assert '29 of 30' in text
    assert 'of torch.int8 instead of torch.float32: ln1.bias\n' in text
    # Counters may have become of floating point with all others.
    state = {k: v.half() for k, v in build(resnet()).state_dict().items()}
    torch.save(state, tmp_path / 'x.pth')
    model = build(resnet())
    load_into(model, tmp_path / 'x.pth')
    assert model.bn1.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize('container', ['model', 'state_dict'])
def test_checkpoints_of_other_programs(tmp_path, container):
    """As timm, BEiT and MAE write them, with the arguments of the program."""
    source = build(vit())
    optimizer = torch.optim.AdamW(source.parameters())
    args = Namespace(lr=1.5e-4, model='vit', opt_betas=[0.9, 0.95], resume=None)
    content = dict(optimizer=optimizer.state_dict(), epoch=3, args=args, version=2)
    content[container] = source.state_dict()
    torch.save(content, tmp_path / 'x.pth')
    model = build(vit())
    load_into(model, tmp_path / 'x.pth')
    assert arrived(model, source.state_dict()) == set(source.state_dict())


def test_other_patch_size(tmp_path):
    path, _ = pretraining(tmp_path)
    config = dict(vit(img_size=64), patch_size=16)
    text = message(build(config), path)
    assert '29 of 30' in text
    assert '(32, 3, 8, 8) instead of (32, 3, 16, 16): patch_embed.projection.w' in text


def test_classifier_given_a_generator(tmp_path):
    meta = dict(backbone_prefix='enhancer.backbone.')
    path, _ = pretraining(tmp_path, meta=meta)
    text = message(build(vit(out_type='avg_featmap')), path, 'generator.backbone.')
    assert "25 of 30 tensors match, at best, with prefix 'generator.backbone.'" in text
    assert 'missing: pos_embed, layers.0-1.attn.qkv.bias, ln1.weight, ln1.bias\n' in text
    assert "all of them match with prefix 'enhancer.backbone.'" in text
    # A network that only the generator is like: not without being asked.
    text = message(build(vit('FusedBEiTViT')), path)
    assert "25 of 35 tensors match, at best, with prefix 'enhancer.backbone.'" in text
    assert "all of them match with prefix 'generator.backbone.': give that if" in text
    # A file that holds nothing but a generator.
    torch.save(build(vit('FusedBEiTViT')).state_dict(), tmp_path / 'generator.pth')
    assert 'missing: pos_embed' in message(classifier(), tmp_path / 'generator.pth')


def told(tmp_path, kind, config):
    """A file of ours, which says what its network is."""
    source = build(config)
    if kind == 'plain':
        path = tmp_path / 'epoch_1_backbone.safetensors'
        save_backbone(path, source.state_dict(), dict(backbone=json.dumps(config)))
        return path, source
    path, prefix = tmp_path / 'epoch_1.pth', 'enhancer.backbone.'
    cfg = Config(dict(model=dict(type='CIM', enhancer=dict(backbone=config))))
    state = {prefix + k: v for k, v in source.state_dict().items()}
    meta = dict(backbone_prefix=prefix, cfg=cfg.pretty_text)
    torch.save(dict(state_dict=state, meta=meta), path)
    return path, source


@pytest.mark.parametrize('kind', ['plain', 'checkpoint'])
def test_a_file_that_says_what_it_is_of(tmp_path, kind):
    path, _ = told(tmp_path, kind, vit('FusedBEiTPretrainViT'))
    text = message(build(vit()), path)
    assert 'missing: pos_embed' in text
    assert text.splitlines()[-1].startswith(
        "  the checkpoint's network is dict(type='FusedBEiTViT', arch={'embed_dims': 32"
    )


@pytest.mark.parametrize('kind', ['plain', 'checkpoint'])
@pytest.mark.parametrize(
    ('config', 'other', 'text'),
    [
        (
            vit(),
            vit(arch=dict(num_heads=2)),
            'num_heads 4 instead of 2: layers.0-1.attn. ',
        ),
        (
            vit(norm_cfg=dict(type='LN', eps=1e-6)),
            vit(norm_cfg=dict(type='LN', eps=1e-3)),
            'eps 1e-06 instead of 0.001: ',
        ),
        (
            dict(type='ResNet', depth=50, base_channels=4, stem_channels=4),
            dict(
                type='ResNet', depth=50, base_channels=4, stem_channels=4, style='caffe'
            ),
            'style pytorch instead of caffe: ResNet',
        ),
        (
            vit(layer_cfgs=dict(act_cfg=dict(type='ReLU'))),
            vit(drop_rate=0.1),
            'ReLU instead of GELU: layers.0-1.ffn.layers.0.1. ',
        ),
        (
            vit(norm_cfg=dict(type='GN', num_groups=1, eps=1e-6), final_norm=False),
            vit(norm_cfg=dict(type='LN', eps=1e-6), final_norm=False),
            'GroupNorm instead of LayerNorm: layers.0-1.ln1, layers.0-1.ln2. ',
        ),
    ],
    ids=['heads', 'eps', 'style', 'activation', 'norm'],
)
def test_another_function_of_the_same_shapes(tmp_path, kind, config, other, text):
    path, _ = told(tmp_path, kind, config)
    found = message(build(other), path)
    assert 'in all shapes, but was trained with ' + text in found
    with DefaultScope.overwrite_default_scope('mmseg'):  # mmseg has a ViT of its own
        assert text in message(build(other), path)


def test_norms_of_several_processes_and_dropouts_are_no_other_function(tmp_path):
    path, source = told(tmp_path, 'plain', resnet())
    model = build(resnet(norm_cfg=dict(type='SyncBN')))
    load_into(model, path)
    assert arrived(model, source.state_dict()) == set(source.state_dict())
    path, source = told(tmp_path, 'plain', vit(drop_rate=0.1, drop_path_rate=0.1))
    model = build(vit())
    load_into(model, path)
    assert arrived(model, source.state_dict()) == set(source.state_dict())


@pytest.mark.parametrize('kind', ['plain', 'checkpoint'])
@pytest.mark.parametrize('target', ['FusedBEiTPretrainViT', 'FusedBEiTViT', 'BEiTViT'])
def test_what_may_differ_from_the_training(tmp_path, kind, target):
    path, source = told(tmp_path, kind, vit('FusedBEiTPretrainViT'))
    out_type = 'featmap' if target == 'FusedBEiTPretrainViT' else 'avg_featmap'
    kwargs = dict(out_indices=(0, 1)) if target == 'FusedBEiTViT' else {}
    model = build(
        vit(
            target,
            out_type=out_type,
            drop_path_rate=0.1,
            frozen_stages=1,
            **kwargs,
        )
    )
    before = torch.get_rng_state()
    load_into(model, path)
    assert torch.equal(torch.get_rng_state(), before)
    common = source.state_dict().keys() & model.state_dict().keys()
    assert len(common) > 25 and arrived(model, source.state_dict()) == common


def test_a_file_of_a_class_that_is_not_there(tmp_path):
    source = build(vit())
    path = tmp_path / 'epoch_1_backbone.safetensors'
    save_backbone(path, source.state_dict(), dict(backbone='{"type": "Elsewhere"}'))
    model = build(vit())
    load_into(model, path)
    assert arrived(model, source.state_dict()) == set(source.state_dict())


def test_foreign_file(tmp_path):
    torch.save({'net.a': torch.zeros(2), 'b': torch.zeros(2)}, tmp_path / 'x.pth')
    text = message(build(resnet()), tmp_path / 'x.pth')
    assert re.search(
        'none of its tensors is named like one .*\n.* begin with: b, net', text
    )
    text = message(build(resnet()), tmp_path / 'x.pth', 'backbone')
    assert "none of its tensors under prefix 'backbone.' is named" in text


def test_prefix_of_a_file_that_has_none(tmp_path):
    path = own_file(tmp_path, build(vit()))
    text = message(build(vit()), path, 'enhancer.backbone.')
    assert "all of them match with prefix ''" in text


def test_two_tensors_of_one_name(tmp_path):
    names = ['patch_embed.proj.weight', 'blocks.0.attn.qkv.weight', 'norm.bias']
    state = {name: torch.zeros(1) for name in [*names, 'ln1.bias']}
    torch.save(state, tmp_path / 'x.pth')
    assert "x.pth: two tensors of one checkpoint are both 'ln1.bias'" in message(
        build(vit()), tmp_path / 'x.pth'
    )


def test_file_without_weights(tmp_path):
    torch.save(dict(epoch=3, optimizer={}), tmp_path / 'x.pth')
    text = message(build(vit()), tmp_path / 'x.pth')
    assert re.search(r"x.pth holds no weights: .*found \['epoch', 'optimizer'\]", text)
    torch.save(torch.zeros(2), tmp_path / 'x.pth')
    assert 'found Tensor' in message(build(vit()), tmp_path / 'x.pth')


def test_broken_and_missing_files(tmp_path):
    path, _ = pretraining(tmp_path)
    content = (tmp_path / 'cim.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[: len(content) // 2])
    assert 'cut.pth is damaged' in message(build(vit()), tmp_path / 'cut.pth')
    (tmp_path / 'cut.safetensors').write_bytes(content[:100])
    assert 'is damaged' in message(build(vit()), tmp_path / 'cut.safetensors')
    for name in ('no.pth', 'no.safetensors'):
        assert f'{name} does not exist' in message(build(vit()), tmp_path / name)
