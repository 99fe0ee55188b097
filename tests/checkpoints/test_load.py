# Copyright (c) mmcim contributors. All rights reserved.
"""Which tensors are loaded into modules of all kinds, and the report.

That all of a backbone arrives, or nothing and an error, is shown by the corpus for files
of all kinds; here are the modules, the text of reports and errors, and ``init_cfg``.
"""

import re

import mmengine.registry
import mmpretrain.registry
import mmseg.models  # noqa: F401
import mmseg.registry
import pytest
import timm
import torch
from mmengine.model import BaseModule, PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS, DefaultScope
from mmpretrain.registry import MODELS
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import nn

from mmcim.checkpoints import BackboneFile, BackboneRecord, Pretrained, load_into
from mmcim.checkpoints.load import PREFIXES
from mmcim.checkpoints.record import describe_function, save_backbone, tensors_sha256
from mmcim.checkpoints.resize import resize_relative_position_table
from mmcim.utils import ConfigError

from .conftest import arrived, build, resnet, vit
from .corpus import (
    AVERAGED,
    CLASSIFIER,
    ENHANCER,
    GENERATOR,
    LINEAR,
    RESNET,
    SHARED,
    TABLE,
    VIT,
    below,
    draw,
    head,
    own_file,
    write,
)

SHARED_TABLES = dict(use_shared_rel_pos_bias=True, use_rel_pos_bias=False)


def message(module, path, **kwargs):
    """The error for a file that does not fit; the module is unchanged after it."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ConfigError) as error:
        load_into(module, path, **kwargs)
    assert arrived(module, before) == set(before)
    assert '\n' not in str(error.value)
    return str(error.value)


def saved(config, path, prefix=''):
    """Write a checkpoint without a record."""
    tensors = draw(config)
    write(path, dict(state_dict=below(prefix, tensors)))
    return tensors


def recorded(config, folder):
    """Write a file with a record of its backbone, as a training does."""
    source = build(config)
    tensors = source.state_dict()
    record = BackboneRecord(config, tensors_sha256(tensors))
    record.function = describe_function(source)
    save_backbone(folder / 'epoch_1_backbone.safetensors', tensors, record)
    return folder / 'epoch_1_backbone.safetensors', source


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'x.pth'


# --------------------------------------------------------------------------------------
# Where the backbone is in the file


def test_report_of_matched_tensors(tmp_path, log):
    tensors = draw(VIT)
    path = own_file(tmp_path, 'pretraining', VIT, tensors)
    model = build(VIT)
    report = load_into(model, path)
    assert arrived(model, tensors) == set(tensors)
    assert (report.total, report.missing, report.new) == (30, [], [])
    assert report.unused == ['generator.*', 'neck.*']
    assert log == [str(report)]
    assert str(report) == (
        f'Backbone weights: 30 of 30 tensors matched from {path}, prefix '
        f'{ENHANCER}; unused: generator.*, neck.*.'
    )


def test_backbone_file_object_is_accepted(tmp_path):
    path = own_file(tmp_path, 'pretraining', VIT, draw(VIT))
    file = BackboneFile.read(path, GENERATOR)
    path.unlink()
    report = load_into(model := build(VIT), file)
    assert report.prefix == GENERATOR
    assert arrived(model, draw(VIT, seed=5)) == set(model.state_dict())


@pytest.mark.parametrize('prefix', PREFIXES)
def test_prefix_is_detected_without_record(path, prefix):
    tensors = draw(RESNET)
    # In another place are fewer of them.
    other = 'encoder.' if prefix == '' else ''
    few = {other + name: torch.zeros_like(tensors[name]) for name in [*tensors][:50]}
    write(path, few | below(prefix, tensors))
    report = load_into(model := build(RESNET), path)
    assert report.prefix == prefix
    assert arrived(model, tensors) == set(tensors)


class Followed(nn.Module):
    """Two equal networks, of which the copy is exported."""

    backbone_prefix = 'copy.backbone.'

    def __init__(self):
        super().__init__()
        self.backbone = build(RESNET)
        self.copy = nn.ModuleDict(dict(backbone=build(RESNET)))


def test_prefix_of_module_takes_precedence(path):
    networks = {p: draw(RESNET, seed) for seed, p in enumerate(('', 'copy.'))}
    content = {}
    for prefix, tensors in networks.items():
        content |= below(f'{prefix}backbone.', tensors)
    write(path, content)
    assert load_into(model := Followed(), path).prefix == 'copy.backbone.'
    assert arrived(model, content) == set(content)


def test_empty_prefix_is_respected(path):
    """Names are then compared from their start, even if more match elsewhere."""
    tensors = draw(RESNET)
    few = {name: tensors[name] for name in [*tensors][:50]}
    write(path, few | below('encoder.', tensors))
    assert load_into(build(RESNET), path).prefix == 'encoder.'
    assert "tensors match, with prefix ''. " in message(build(RESNET), path, prefix='')


def test_first_of_equal_prefixes_is_used(path):
    """A teacher takes precedence over its student."""
    networks = {p: draw(VIT, seed) for seed, p in enumerate(('student', 'teacher'))}
    write(path, {name: below('backbone.', value) for name, value in networks.items()})
    assert load_into(model := build(VIT), path).prefix == 'teacher.backbone.'
    assert arrived(model, networks['teacher']) == set(networks['teacher'])


def test_file_without_matching_tensors_raises(path):
    write(path, {'net.a': torch.zeros(2), 'b': torch.zeros(2)})
    assert message(build(RESNET), path) == (
        f'checkpoint {path} has no tensor of a ResNet; its names begin with: b, net'
    )
    text = message(build(RESNET), path, prefix='backbone')
    assert "has no tensor of a ResNet with prefix 'backbone.'; its names" in text
    saved(RESNET, path, 'a.b.')
    assert message(build(RESNET), path, prefix='c').endswith(
        "of a ResNet with prefix 'c.'; its names begin with: a.b."
    )


def test_duplicate_names_raise(path):
    names = ['patch_embed.proj.weight', 'blocks.0.attn.qkv.weight', 'norm.bias']
    write(path, {name: torch.zeros(1) for name in [*names, 'ln1.bias']})
    text = message(build(VIT), path)
    assert text.endswith("x.pth has two tensors that would be named 'ln1.bias'")


# --------------------------------------------------------------------------------------
# Position embeddings


def test_report_lists_resized_position_embeddings(tmp_path, path, log):
    """For a rectangle and its transpose; index buffers are not loaded."""
    config = vit('FusedBEiTViT', (16, 40), **SHARED_TABLES)
    tensors = saved(config, path)
    table = tensors[f'rel_pos_bias.{TABLE}']
    model = build(vit('FusedBEiTViT', (40, 16)))
    index = model.layers[0].attn.relative_position_index.clone()
    assert 'a file that records its grid' in message(build(vit('FusedBEiTViT')), path)
    report = load_into(
        model, own_file(tmp_path, 'exported', config, tensors, grid=(2, 5))
    )
    expected = resize_relative_position_table(table, (2, 5), (5, 2))
    assert torch.equal(model.layers[1].attn.relative_position_bias_table, expected)
    assert torch.equal(model.layers[0].attn.relative_position_index, index)
    assert '35 of 35 tensors matched from' in log[0]
    assert f'; resized: layers.0-1.attn.{TABLE} 30 -> 30; ' in log[0]
    assert report.unused == report.missing == []


def test_unused_class_token_is_reported(path):
    saved(VIT, path)
    report = load_into(build(vit(with_cls_token=False, img_size=48)), path)
    assert report.unused == ['cls_token'] and report.resized == dict(pos_embed=(17, 36))


# --------------------------------------------------------------------------------------
# Tensors that a module may have in addition, or lack


def test_only_batch_counters_may_be_missing(path):
    """Old files of torchvision have none."""
    tensors = draw(RESNET) | head('fc')
    counters = [name for name in tensors if name.endswith('num_batches_tracked')]
    for name in counters:
        del tensors[name]
    write(path, tensors)
    report = load_into(build(RESNET), path)
    assert report.missing == counters and len(counters) == 20
    assert report.unused == ['fc.weight', 'fc.bias']
    del tensors['layer2.1.bn1.running_var']
    write(path, tensors)
    assert 'layer2.1.bn1.running_var missing. ' in message(build(RESNET), path)


def test_float_batch_counters_are_accepted(path):
    """Counters may have been converted with all other tensors."""
    write(path, {name: value.half() for name, value in draw(RESNET).items()})
    load_into(model := build(RESNET), path)
    assert model.bn1.num_batches_tracked.dtype == torch.int64
    assert model.bn1.num_batches_tracked == 7


def test_norm_of_averaged_features_is_new(path, log):
    saved(VIT, path)
    model = build(AVERAGED)
    before = model.ln2.weight.clone()
    assert load_into(model, path).new == ['ln2.weight', 'ln2.bias']
    assert 'new in this network: ln2.weight, ln2.bias' in log[0]
    assert torch.equal(model.ln2.weight, before)
    # A classifier's checkpoint has it, and then it is loaded.
    tensors = saved(AVERAGED, path)
    assert load_into(model, path).new == []
    assert torch.equal(model.ln2.weight, tensors['ln2.weight'])


def test_layers_without_effect_may_be_dropped(path):
    """A mask token, the norm of another pooling, heads, decoders, a bias of keys."""
    config = vit('FusedBEiTPretrainViT', **SHARED_TABLES)
    more = ('layers.0.attn.k_bias', 'decoder_blocks.0.attn.qkv.weight', 'head.fc.weight')
    write(path, draw(config) | {name: torch.zeros(32) for name in more})
    model = build(vit('FusedBEiTViT', final_norm=False, **SHARED_TABLES))
    report = load_into(model, path)
    assert set(report.unused) == {'mask_token', 'ln1.weight', 'ln1.bias', *more}


def test_only_last_stages_may_be_dropped(path):
    stages = dict(num_stages=3, out_indices=(2,), strides=(1, 2, 2), dilations=(1, 1, 1))
    tensors = saved(RESNET, path)
    report = load_into(build(resnet(**stages)), path)
    assert {name.split('.')[0] for name in report.unused} == {'layer4'}
    write(path, tensors | {'layer3.0.extra.weight': torch.zeros(2)})
    text = message(build(resnet(**stages)), path)
    assert 'layer3.0.extra.weight in the file, but not in the module. ' in text


LAYER = r'layers\.0-1\.'


@pytest.mark.parametrize(
    ('trained', 'other', 'names'),
    [
        (SHARED, vit('FusedBEiTViT', use_rel_pos_bias=False, final_norm=True),
         rf'rel_pos_bias\.{TABLE}'),
        (vit('FusedBEiTViT', **SHARED_TABLES),
         vit('FusedBEiTViT', layer_scale_init_value=0, **SHARED_TABLES),
         rf'{LAYER}gamma_1, {LAYER}gamma_2'),
        (VIT, vit(qkv_bias=False), rf'{LAYER}attn\.qkv\.bias'),
        (vit(pre_norm=True, patch_cfg=dict(bias=True)), VIT,
         r'pre_norm\.\w+, pre_norm\.\w+'),
        (vit('FusedBEiTViT', use_abs_pos_emb=True), vit('FusedBEiTViT'), 'pos_embed'),
    ],
    ids=['shared positions', 'scales', 'bias', 'norm', 'absolute positions'],
)  # fmt: skip
def test_tensors_that_change_the_function_are_required(path, trained, other, names):
    saved(trained, path)
    text = message(build(other), path)
    assert re.search(
        rf'does not fit a (\w+): (\d+) of \2 tensors match, .* {names} '
        'in the file, but not in the module. Set type, arch',
        text,
    )


def test_query_and_key_norms_are_required(path):
    sizes = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4)
    theirs = timm.create_model('vit_tiny_patch16_224', mlp_ratio=2, qk_norm=True, **sizes)
    write(path, theirs.state_dict())
    text = message(build(VIT), path)
    assert 'layers.0-1.attn.q_norm.weight' in text and 'head' not in text


# --------------------------------------------------------------------------------------
# Whole models and other modules


def test_report_of_whole_model(tmp_path):
    """Head and final norm are new; counts refer to the backbone."""
    path = own_file(tmp_path, 'pretraining', VIT, draw(VIT))
    report = load_into(build(CLASSIFIER), path)
    assert report.total == 30
    assert report.missing == ['head.fc.weight', 'head.fc.bias']
    assert report.new == ['ln2.weight', 'ln2.bias']
    assert report.unused == ['generator.*', 'neck.*']


@pytest.mark.parametrize('classes', [3, 7])
def test_other_parts_of_whole_model_are_loaded(path, classes, log):
    tensors = saved(dict(CLASSIFIER, head=dict(LINEAR, num_classes=classes)), path)
    report = load_into(model := build(CLASSIFIER), path)
    others = {name for name in tensors if name.startswith('head')}
    same = classes == 3
    assert arrived(model, tensors) == set(tensors) - (set() if same else others)
    assert set(report.missing) == (set() if same else others)
    assert ('missing: head' in log[0]) != same
    assert report.unused == ([] if same else ['head.*'])


def test_partial_other_modules_raise(path):
    write(
        path,
        below('enhancer.neck.', {'weight': torch.ones(3, 32), 'bias': torch.ones(3)}),
    )
    load_into(model := nn.Linear(32, 3), path, 'enhancer.neck')
    assert torch.equal(model.weight, torch.ones(3, 32))
    text = message(nn.Linear(16, 3), path, prefix='enhancer.neck')
    assert '1 of 2 tensors match' in text
    assert 'weight of shape (3, 32) instead of (3, 16). Set' in text


def test_timm_backbone_is_loaded(tmp_path, path):
    """From a pre-training, and by an explicit prefix."""
    config = dict(type='TIMMBackbone', model_name='resnet18', features_only=True)
    tensors = draw(config)
    load_into(model := build(config), own_file(tmp_path, 'pretraining', config, tensors))
    assert arrived(model, tensors) == set(tensors)
    write(path, below('a.b.', tensors))
    load_into(model := build(config), path, 'a.b')
    assert arrived(model, tensors) == set(tensors)


# --------------------------------------------------------------------------------------
# Errors


def test_error_lists_all_problems(path):
    saved(VIT, path, 'encoder.')
    text = message(build(vit(arch=dict(num_layers=3))), path)
    assert text.startswith(
        f'checkpoint {path} does not fit a VisionTransformer: 30 of 42 tensors match, '
        "with prefix 'encoder.'. layers.2."
    )
    assert len(re.findall(r'layers\.2\.', text)) == 12
    assert text.endswith(
        'layers.2.ffn.layers.1.bias missing. Set type, arch, patch_size, ... as in its '
        'training, or take another prefix or checkpoint'
    )
    text = message(build(vit(arch=dict(embed_dims=64))), path)
    assert ' 2 of 30 tensors match' in text
    assert 'pos_embed of shape (1, 17, 32) instead of (1, 17, 64)' in text


@pytest.mark.parametrize(
    ('config', 'other', 'text'),
    [
        (
            VIT,
            vit(arch=dict(num_heads=2)),
            'layers.0-1.attn.num_heads 4 instead of 2. Set',
        ),
        (
            vit(norm_cfg=dict(type='LN', eps=1e-6)),
            vit(norm_cfg=dict(type='LN', eps=1e-3)),
            'layers.0-1.ln1.eps, layers.0-1.ln2.eps, ln1.eps 1e-06 instead of 0.001',
        ),
        (
            dict(type='ResNet', depth=50, base_channels=4, stem_channels=4),
            dict(
                type='ResNet', depth=50, base_channels=4, stem_channels=4, style='caffe'
            ),
            ' style, layer1.0-2.style, ',
        ),
        (
            vit(layer_cfgs=dict(act_cfg=dict(type='ReLU'))),
            vit(drop_rate=0.1),
            'layers.0-1.ffn.layers.0.1.type ReLU instead of GELU. ',
        ),
        (
            vit(norm_cfg=dict(type='GN', num_groups=1, eps=1e-6), final_norm=False),
            vit(norm_cfg=dict(type='LN', eps=1e-6), final_norm=False),
            'layers.0-1.ln1.type, layers.0-1.ln2.type GroupNorm instead of LayerNorm. ',
        ),
    ],
    ids=['heads', 'eps', 'style', 'activation', 'norm'],
)
def test_different_config_with_same_shapes_raises(tmp_path, config, other, text):
    path, _ = recorded(config, tmp_path)
    found = message(build(other), path)
    assert re.search(r'does not fit a \w+: (\d+) of \1 tensors match, ', found)
    assert text in found


@pytest.mark.parametrize(
    ('config', 'other'),
    [
        (RESNET, resnet(norm_cfg=dict(type='SyncBN'))),
        (vit(drop_rate=0.1, drop_path_rate=0.1), VIT),
        (VIT, vit(drop_rate=0.1, drop_path_rate=0.1)),
        *(
            (vit('FusedBEiTPretrainViT'), vit(kind, drop_path_rate=0.1, **change))
            for kind, change in (
                ('FusedBEiTPretrainViT', dict(frozen_stages=1)),
                ('FusedBEiTViT', dict(out_indices=(0, 1), out_type='avg_featmap')),
                ('BEiTViT', dict(out_type='avg_featmap')),
            )
        ),
    ],
)
def test_config_differences_that_are_allowed(tmp_path, config, other):
    path, source = recorded(config, tmp_path)
    model = build(other)
    load_into(model, path)
    common = source.state_dict().keys() & model.state_dict().keys()
    assert len(common) >= 30 and arrived(model, source.state_dict()) == common


# --------------------------------------------------------------------------------------
# init_cfg=dict(type='Pretrained', ...)


def initialized(config, scope='mmpretrain'):
    """Build and initialise a model as a runner does."""
    registry = dict(mmpretrain=MODELS, mmseg=MMSEG_MODELS)[scope]
    with DefaultScope.overwrite_default_scope(scope):
        model = registry.build(config)
        model.init_weights()
    return model


def pretrained(checkpoint, **kwargs):
    return dict(type='Pretrained', checkpoint=str(checkpoint), **kwargs)


def segmentor(backbone, channels, **kwargs):
    decoder = dict(
        type='FCNHead', in_channels=channels, in_index=-1, channels=channels, num_convs=0,
        concat_input=False, num_classes=3,
    )  # fmt: skip
    test = dict(mode='whole')
    return dict(
        type='EncoderDecoder', backbone=backbone, decode_head=decoder, train_cfg={},
        test_cfg=test, **kwargs,
    )  # fmt: skip


def test_initializer_is_registered_for_mmpretrain_and_mmseg():
    config = pretrained('x')
    for registry in (mmpretrain.registry, mmseg.registry):
        assert registry.WEIGHT_INITIALIZERS.module_dict['Pretrained'] is Pretrained
    assert (
        mmengine.registry.WEIGHT_INITIALIZERS.module_dict['Pretrained'] is PretrainedInit
    )
    for scope, kind in (
        ('mmpretrain', Pretrained), ('mmseg', Pretrained), ('mmengine', PretrainedInit)
    ):  # fmt: skip
        with DefaultScope.overwrite_default_scope(scope):
            assert type(WEIGHT_INITIALIZERS.build(dict(config))) is kind


@pytest.mark.parametrize('prefix', [None, ENHANCER])
@pytest.mark.parametrize('kind', ['VisionTransformer', 'FusedBEiTViT', 'BEiTViT'])
def test_init_cfg_of_classifier_backbone(path, kind, prefix, log):
    tensors = saved(vit(kind, final_norm=True), path, prefix or 'backbone.')
    cfg = pretrained(path, **(dict(prefix=prefix) if prefix else {}))
    backbone = vit(kind, final_norm=True, out_type='avg_featmap', init_cfg=cfg)
    model = initialized(dict(CLASSIFIER, backbone=backbone))
    assert arrived(model.backbone, tensors) == set(tensors)
    assert f'{len(tensors)} of {len(tensors)} tensors' in log[0]
    # A new norm has its default initialisation.
    assert torch.equal(model.backbone.ln2.weight, torch.ones(32))


@pytest.mark.parametrize('key', ['pretrained', 'init_cfg'])
def test_init_cfg_of_whole_classifier(path, key, log):
    tensors = saved(VIT, path, 'backbone.')
    cfg = str(path) if key == 'pretrained' else pretrained(path)
    model = initialized(dict(CLASSIFIER, backbone=VIT, **{key: cfg}))
    assert arrived(model.backbone, tensors) == set(tensors)
    assert 'missing: head.fc.weight, head.fc.bias' in log[0]
    # The head keeps its own initialisation.
    assert 0 < model.head.fc.weight.std() < 0.02


@pytest.mark.parametrize('kind', ['VisionTransformer', 'FusedBEiTViT', 'BEiTViT'])
def test_init_cfg_of_segmentor_backbone(path, kind, log):
    """At another, rectangular size, where mmpretrain's own loading needs SciPy < 1.14."""
    tensors = saved(vit(kind), path)
    config = vit(f'mmpretrain.{kind}', (48, 64), init_cfg=pretrained(path))
    model = initialized(segmentor(config, 32), 'mmseg')
    positions = {name for name in tensors if name.endswith(('pos_embed', TABLE))}
    assert arrived(model.backbone, tensors) == set(tensors) - positions
    assert '; resized: ' in log[0]
    for name in positions:
        assert model.state_dict()[f'backbone.{name}'].std() > 0.1  # not mmseg's 0.02


@pytest.mark.parametrize('kind', ['mmpretrain.ResNet', 'ResNetV1c', 'ResNet'])
def test_init_cfg_of_segmentor_resnet(path, kind):
    """mmseg's own, and mmpretrain's; V1c has another stem."""
    config = {**resnet(out_indices=(3,)), 'type': kind}
    with DefaultScope.overwrite_default_scope('mmseg'):
        source = MMSEG_MODELS.build(config).state_dict()
    for value in source.values():
        value.copy_(torch.rand_like(value.float()))
    write(path, source)
    model = initialized(segmentor({**config, 'init_cfg': pretrained(path)}, 64), 'mmseg')
    assert arrived(model.backbone, source) == set(source)


def test_init_cfg_with_wrong_stem_raises(path):
    saved(RESNET, path)
    config = {**resnet(), 'type': 'ResNetV1c', 'init_cfg': pretrained(path)}
    with pytest.raises(ConfigError, match=r'\. stem\.0-1,3-4,6-7\.weight, .* missing\. '):
        initialized(segmentor(config, 64), 'mmseg')


def test_init_cfg_of_whole_segmentor(path, log):
    tensors = saved(RESNET, path, 'backbone.')
    model = initialized(segmentor(dict(RESNET), 64, init_cfg=pretrained(path)), 'mmseg')
    assert arrived(model.backbone, tensors) == set(tensors)
    assert 'missing: decode_head.conv_seg.weight, decode_head.conv_seg.bias' in log[0]


class Neck(BaseModule):
    """Modules other than backbones."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.fc = nn.Linear(2, 2)


NECK = {'fc.weight': torch.ones(2, 2), 'fc.bias': torch.ones(2)}


@pytest.mark.parametrize('others', [False, True])
def test_init_cfg_of_other_modules(path, others, monkeypatch):
    """Other initialisers run before or after it."""
    write(path, below('neck.', NECK))
    cfg = pretrained(path, prefix='neck')
    neck = Neck([cfg, dict(type='Constant', val=5, layer='Linear')] if others else cfg)
    infos = []
    monkeypatch.setattr(
        neck, '_dump_init_info', lambda: infos.extend(neck._params_init_info.values())
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        neck.init_weights()
    assert arrived(neck, NECK) == set(NECK)
    assert [info['init_info'] for info in infos] == [f'Pretrained: load from {path}'] * 2
    with (
        DefaultScope.overwrite_default_scope('mmseg'),
        pytest.raises(ConfigError, match=r"no tensor of a Neck with prefix 'head\.'"),
    ):
        Neck(pretrained(path, prefix='head.')).init_weights()


@pytest.mark.parametrize('config', [VIT, RESNET])
def test_init_cfg_in_list_raises(path, config):
    """Its backbones initialise again, unless init_cfg is the dict itself."""
    saved(config, path)
    with pytest.raises(ConfigError, match=r'init_cfg of a \w+ is a list, .* alone'):
        initialized({**config, 'init_cfg': [pretrained(path)]})
