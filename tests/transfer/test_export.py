# Copyright (c) mmcim contributors. All rights reserved.
"""Exported networks, opened as the tool says, give the same features.

The code that the tool prints is executed; each time both networks see real pictures.
"""

import json

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors import safe_open
from torchvision.transforms.functional import pil_to_tensor

from mmcim.apis import load_backbone
from mmcim.transfer import read_backbone, save_backbone
from mmcim.transfer.export import TARGETS, export_backbone
from mmcim.utils import ConfigError

SIZE = 64
SMALL = dict(
    arch=dict(embed_dims=48, num_layers=3, num_heads=4, feedforward_channels=96),
    img_size=SIZE,
    patch_size=8,
)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

VIT = dict(type='VisionTransformer', out_type='featmap', **SMALL)
BEIT = dict(type='FusedBEiTViT', **SMALL)
SHARED = dict(BEIT, use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
RESNET = dict(type='ResNet', depth=50)

NETWORKS = {
    'vit': VIT,
    'vit cls_token': dict(VIT, out_type='cls_token'),
    'vit LayerScale': dict(VIT, layer_scale_init_value=0.1),
    'vit averaged': dict(VIT, out_type='avg_featmap', final_norm=False),
    'vit no norm': dict(VIT, final_norm=False),
    'vit no class token': dict(VIT, with_cls_token=False),
    'vit rectangle': dict(VIT, img_size=(64, 32)),
    'vit no bias': dict(VIT, qkv_bias=False),
    'vit two norms': dict(VIT, out_type='avg_featmap'),
    'vit eps': dict(VIT, norm_cfg=dict(type='LN', eps=1e-4)),
    'vit of MAE': dict(VIT, type='MAEBaselineViT'),
    'vit of MoCo v3': dict(VIT, type='FixedPositionViT'),
    'beit': BEIT,
    'beit rectangle': dict(BEIT, img_size=(64, 32)),
    'beit featmap': dict(BEIT, out_type='featmap'),
    'beit norm': dict(BEIT, out_type='featmap', final_norm=True),
    'beit shared': dict(SHARED, out_type='cls_token', final_norm=True),
    'beit shared averaged': SHARED,
    'beit absolute': dict(
        BEIT, use_rel_pos_bias=False, use_abs_pos_emb=True, layer_scale_init_value=0
    ),
    'beit key bias': dict(BEIT, bias=True),
    'beit no bias': dict(BEIT, bias=False),
    'beit two norms': dict(BEIT, final_norm=True),
    'beit of a pre-training': dict(SHARED, type='FusedBEiTPretrainViT', out_type='raw'),
    'resnet50': RESNET,
    'resnet of a segmentor': dict(
        type='mmpretrain.ResNet', depth=18, norm_cfg=dict(type='SyncBN'),
        out_indices=(0, 1, 2, 3),
    ),
    'caffe': dict(type='ResNet', depth=18, style='caffe'),
    'deep stem': dict(type='ResNetV1d', depth=18),
    'relu': dict(VIT, layer_cfgs=dict(act_cfg=dict(type='ReLU'))),
    'swiglu': dict(VIT, layer_cfgs=dict(ffn_type='swiglu_fused')),
    'overlapping': dict(VIT, patch_cfg=dict(stride=4)),
    'timm': dict(type='TIMMBackbone', model_name='resnet18'),
}  # fmt: skip
VITS = [name for name in NETWORKS if name.startswith('vit')]
BEITS = [name for name in NETWORKS if name.startswith('beit')]

# Which cannot be expressed, and why.
IMPOSSIBLE = {
    'timm': {
        'vit two norms': 'one or the other.*pre-training',
        'vit eps': "eps of the layer norms is 0.0001, of timm's 1e-06",
        'beit two norms': 'one or the other',
        'caffe': "style='caffe' is not 'pytorch'",
        'deep stem': 'ResNetV1d cannot be exported; VisionTransformer, BEiTViT',
        'relu': 'feed-forward layers are not two linear ones with GELU',
        'swiglu': 'feed-forward layers are not two linear ones with GELU',
        'overlapping': 'patches overlap',
        'timm': "has timm's tensors and names already",
    },
    'hf': {
        'vit LayerScale': 'ViTModel has no LayerScale',
        'vit averaged': 'ViTModel normalises its tokens',
        'vit no norm': 'ViTModel normalises its tokens',
        'vit no class token': 'a class token is needed',
        'vit two norms': 'before and one after averaging',
        'beit rectangle': 'square',
        'beit no bias': 'biases of queries and values',
        'beit two norms': 'before and one after averaging',
        'resnet50': 'writes ViTModel and BeitModel, and this is a ResNet',
        'relu': 'GELU',
    },
    'torchvision': {
        'vit': 'takes a ResNet, and this is a VisionTransformer',
        'beit': 'takes a ResNet, and this is a FusedBEiTViT',
        'caffe': "style='caffe' is not 'pytorch'",
    },
    'mmseg': {
        'vit LayerScale': 'VisionTransformer has no LayerScale',
        'vit no class token': 'a class token is needed',
        'vit no bias': 'VisionTransformer has biases',
        'beit rectangle': 'square pictures only',
        'beit absolute': 'no absolute positions',
        'caffe': "style='caffe' is not 'pytorch'",
    },
}
CANDIDATES = {
    'timm': [*VITS, *BEITS, 'resnet50', 'resnet of a segmentor'],
    'hf': [*VITS, *BEITS],
    'torchvision': ['resnet50'],
    'mmseg': [*VITS, *BEITS, 'resnet50'],
}
POSSIBLE = {
    target: [name for name in names if name not in IMPOSSIBLE[target]]
    for target, names in CANDIDATES.items()
}


def pairs(table):
    return [
        pytest.param(target, name, id=f'{target}-{name}')
        for target, names in table.items()
        for name in names
    ]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Plain backbones of all networks, by name, with random weights."""
    folder = tmp_path_factory.mktemp('backbones')
    paths = {}

    def write(name):
        if name not in paths:
            paths[name] = folder / f'{name}.safetensors'
            network = MODELS.build(dict(NETWORKS[name]))
            metadata = dict(backbone=json.dumps(NETWORKS[name]))
            metadata |= dict(mean=json.dumps(MEAN), std=json.dumps(STD))
            save_backbone(paths[name], randomize(network).state_dict(), metadata)
        return paths[name]

    return write


def randomize(network):
    """Give every tensor values that matter, norms and statistics as well."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.ndim == 4:
            fan_in = value[0].numel()
            value.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        elif name.endswith('.bias') or 'mean' in name:
            value.normal_(0, 0.1, generator=generator)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.0, generator=generator)
        elif value.is_floating_point():
            value.normal_(0, 0.2, generator=generator)
    return network


@pytest.fixture(scope='module')
def pictures(imagenette_mini):
    """Paths of real pictures, in a few classes."""
    return sorted((imagenette_mini / 'val').rglob('*.JPEG'))[::150]


def load_pictures(paths, size):
    height, width = size
    images = [Image.open(p).convert('RGB').resize((width, height)) for p in paths]
    pixels = torch.stack([pil_to_tensor(image) for image in images]).float()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def run_usage(usage, **names):
    """Execute what the tool prints."""
    exec(usage, names)
    return names


def features_of(path, name, images, **overrides):
    """What mmpretrain's network itself gives."""
    network = MODELS.build({**NETWORKS[name], **overrides})
    network.load_state_dict(read_backbone(path)[0], strict=False)
    network.train(False)
    masked = NETWORKS[name]['type'] == 'FusedBEiTPretrainViT'
    with torch.no_grad():
        return (network(images, None) if masked else network(images))[-1]


def assert_equal_features(found, expected):
    """Equal to 1e-5, for features of which the largest are about 1 or more."""
    scale = max(1.0, expected.abs().max().item())
    assert expected.std() > 0.01 * scale, 'the pictures make no difference'
    assert expected.std(dim=0).mean() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(('target', 'name'), pairs(POSSIBLE))
def test_same_features(files, pictures, tmp_path, target, name):
    if target == 'hf':
        pytest.importorskip('transformers')
    path, out = files(name), tmp_path / f'out{TARGETS[target]}'
    export = export_backbone(path, target, out)
    assert export.difference < 1e-5
    side = NETWORKS[name].get('img_size', 224)
    size = (side, side) if isinstance(side, int) else side
    images = load_pictures(pictures, size)
    averaged = NETWORKS[name].get('out_type', 'avg_featmap') == 'avg_featmap'
    raw = {} if averaged or 'resnet' in name else dict(out_type='raw')
    with torch.no_grad():
        found = {
            'timm': use_timm,
            'hf': use_transformers,
            'mmseg': use_mmseg,
            'torchvision': use_torchvision,
        }[target](export.usage, images)
    if target == 'mmseg' and 'resnet' not in name:
        raw = dict(out_type='featmap')
    assert_equal_features(found, features_of(path, name, images, **raw))
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def use_timm(usage, images):
    names = run_usage(usage, images=images)
    config = timm.data.resolve_model_data_config(names['model'])
    assert config['mean'] == (0.485, 0.456, 0.406)
    assert config['std'] == (0.229, 0.224, 0.225)
    assert config['input_size'][1:] == tuple(images.shape[2:])
    return names['features']


def use_transformers(usage, images):
    model = run_usage(usage)['model']
    assert not model.training
    output = model(images)
    return output.last_hidden_state if model.pooler is None else output.pooler_output


def use_mmseg(usage, images):
    """By init_cfg, as a config of mmsegmentation loads it."""
    from mmseg.registry import MODELS as MMSEG_MODELS

    config = run_usage(usage)['backbone']
    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MMSEG_MODELS.build(config)
        network.init_weights()
    network.train(False)
    return network(images)[-1]


def use_torchvision(usage, images):
    model = run_usage(usage)['model']
    model.avgpool = model.fc = torch.nn.Identity()
    flat = model(images)
    return flat.view(len(images), 2048, *(side // 32 for side in images.shape[2:]))


@pytest.mark.parametrize(('target', 'name'), pairs(IMPOSSIBLE))
def test_says_what_cannot_be_expressed(files, tmp_path, target, name):
    with pytest.raises(ConfigError, match=IMPOSSIBLE[target][name]):
        export_backbone(files(name), target, tmp_path / f'out{TARGETS[target]}')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['vit', 'vit two norms', 'beit of a pre-training'])
def test_mmpretrain(files, tmp_path, name):
    out = tmp_path / 'out.safetensors'
    export = export_backbone(files(name), 'mmpretrain', out)
    assert export.difference is None
    names = run_usage(export.usage)
    assert names['custom_imports'] == dict(imports=['mmcim'])
    tensors, metadata = read_backbone(files(name))
    network = MODELS.build(names['backbone'])
    network.init_weights()
    tensors.pop('mask_token', None)  # of a pre-training, and in no whole picture
    assert network.state_dict().keys() == tensors.keys()
    for key, value in network.state_dict().items():
        assert torch.equal(value, tensors[key])
    written = read_backbone(out)[1]
    config = json.loads(written.pop('backbone'))
    assert config == {k: v for k, v in names['backbone'].items() if k != 'init_cfg'}
    kind = 'FusedBEiTViT' if 'beit' in name else 'VisionTransformer'
    assert config['type'] == kind
    del metadata['backbone']
    assert written == metadata


@pytest.mark.parametrize(
    ('target', 'name', 'size'),
    [
        ('mmpretrain', 'beit of a pre-training', (48, 80)),
        ('mmseg', 'beit of a pre-training', (96, 96)),
        ('mmseg', 'beit', (48, 48)),
        ('mmseg', 'vit', (48, 80)),
        ('timm', 'vit', (48, 80)),
        ('hf', 'beit shared', (96, 96)),
    ],
)
def test_at_another_size(files, pictures, tmp_path, target, name, size):
    if target == 'hf':
        pytest.importorskip('transformers')
    out = tmp_path / f'out{TARGETS[target]}'
    export = export_backbone(files(name), target, out, img_size=size)
    resized = load_backbone(files(name), img_size=size)
    images = load_pictures(pictures, size)
    if target == 'mmpretrain':
        network = load_backbone(out)
        assert tuple(network.img_size) == size
        assert read_backbone(out)[1]['grid'] == json.dumps([s // 8 for s in size])
        found = network(images)[-1]
    else:
        use = dict(timm=use_timm, hf=use_transformers, mmseg=use_mmseg)[target]
        found = use(export.usage, images)
        averaged = resized.out_type == 'avg_featmap' and target != 'mmseg'
        pooled = 'avg_featmap' if averaged else 'raw'
        resized.out_type = 'featmap' if target == 'mmseg' else pooled
    assert_equal_features(found.detach(), resized(images)[-1].detach())


def test_a_resnet_has_no_size(files, tmp_path):
    with pytest.raises(ConfigError, match='img_size'):
        out = tmp_path / 'out.safetensors'
        export_backbone(files('resnet50'), 'timm', out, img_size=(64, 64))
    assert list(tmp_path.iterdir()) == []


def test_another_backbone_of_a_checkpoint(tmp_path):
    """The online encoder beside the momentum encoder that is kept."""
    config = Config(dict(model=dict(type='ConMIM', backbone=VIT)))
    networks = {p: MODELS.build(dict(VIT)) for p in ('backbone.', 'momentum_encoder.')}
    state = {
        p + k: torch.randn_like(v)
        for p, network in networks.items()
        for k, v in network.state_dict().items()
    }
    meta = dict(cfg=config.pretty_text, backbone_prefix='momentum_encoder.')
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'epoch_1.pth')
    for prefix, expected in ((None, 'momentum_encoder.'), ('backbone.', 'backbone.')):
        out = tmp_path / f'{prefix}.safetensors'
        export_backbone(tmp_path / 'epoch_1.pth', 'mmpretrain', out, prefix=prefix)
        tensors, _ = read_backbone(out)
        assert tensors.keys() == networks[expected].state_dict().keys()
        for name, value in tensors.items():
            assert torch.equal(value, state[expected + name])


@pytest.mark.parametrize('name', ['vit', 'beit'])
def test_preprocessor_of_transformers(files, pictures, tmp_path, name):
    """Pictures of the right size come out as those of the training did."""
    transformers = pytest.importorskip('transformers')
    export_backbone(files(name), 'hf', tmp_path / 'out')
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / 'out')
    images = [Image.open(p).convert('RGB').resize((SIZE, SIZE)) for p in pictures]
    found = processor(images=images, return_tensors='pt')['pixel_values']
    expected = load_pictures(pictures, (SIZE, SIZE))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    large = processor(images=images[0].resize((100, 80)), return_tensors='pt')
    assert large['pixel_values'].shape == (1, 3, SIZE, SIZE)


def test_all_of_transformers_is_loaded(files, tmp_path):
    transformers = pytest.importorskip('transformers')
    for name, kind in (('vit', 'ViTModel'), ('beit shared', 'BeitModel')):
        out = tmp_path / name
        export_backbone(files(name), 'hf', out)
        _, info = getattr(transformers, kind).from_pretrained(
            out, add_pooling_layer=False, output_loading_info=True
        )
        assert not any(info.values())


def test_file_of_timm_says_how_to_open_it(files, tmp_path):
    out = tmp_path / 'vit.safetensors'
    export = export_backbone(files('vit'), 'timm', out)
    with safe_open(out, 'pt') as file:
        call = file.metadata()['create_model']
    assert call.replace("'vit.safetensors'", repr(str(out))) in export.usage


def test_force_replaces_no_other_kind(files, tmp_path):
    file, folder = tmp_path / 'out', tmp_path / 'out.safetensors'
    file.write_text('a file')
    folder.mkdir()
    (folder / 'mine').write_text('keep')
    with pytest.raises(ConfigError, match='for hf, --out is a folder, but .* is a file'):
        export_backbone(files('vit'), 'hf', file, force=True)
    with pytest.raises(ConfigError, match='for timm, --out is a file, but .* a folder'):
        export_backbone(files('vit'), 'timm', folder, force=True)
    assert file.read_text() == 'a file' and (folder / 'mine').read_text() == 'keep'


def test_sizes_that_have_a_name_in_timm(files, tmp_path):
    network = MODELS.build(dict(type='VisionTransformer', arch='deit-tiny'))
    config = dict(type='VisionTransformer', arch='deit-tiny', out_type='cls_token')
    path = tmp_path / 'tiny.safetensors'
    save_backbone(path, network.state_dict(), dict(backbone=json.dumps(config)))
    export = export_backbone(path, 'timm', tmp_path / 'out.safetensors')
    assert "'vit_tiny_patch16_224'" in export.usage
    assert 'embed_dim' not in export.usage
    assert 'img_size' not in export.usage


def test_a_network_that_computes_something_else_is_not_written(
    files, tmp_path, monkeypatch
):
    """Whatever the conversion overlooks is found by comparing."""
    from mmcim.transfer.exporters import timm as exporter

    original = exporter.from_mmpretrain

    def wrong(tensors):
        tensors = original(tensors)
        tensors['blocks.1.mlp.fc1.bias'] = tensors['blocks.1.mlp.fc1.bias'] + 1
        return tensors

    monkeypatch.setattr(exporter, 'from_mmpretrain', wrong)
    with pytest.raises(ConfigError, match='features differ by .* Nothing was written'):
        export_backbone(files('vit'), 'timm', tmp_path / 'out.safetensors')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('target', ['timm', 'hf'])
def test_replaces_only_by_force(files, tmp_path, target):
    out = tmp_path / f'out{TARGETS[target]}'
    export_backbone(files('vit'), target, out)
    with pytest.raises(ConfigError, match='exists; add --force'):
        export_backbone(files('beit'), target, out)
    # A failure leaves the old one.
    with pytest.raises(ConfigError):
        export_backbone(files('vit two norms'), target, out, force=True)
    assert 'vit' in opened(out)
    export_backbone(files('beit'), target, out, force=True)
    assert 'beit' in opened(out)
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def opened(out):
    if out.is_dir():
        return (out / 'config.json').read_text().lower()
    with safe_open(out, 'pt') as file:
        return file.metadata()['create_model']


def test_what_the_file_lacks(files, tmp_path):
    tensors, metadata = read_backbone(files('vit'))
    path = tmp_path / 'a.safetensors'
    save_backbone(path, tensors, dict(backbone=metadata['backbone']))
    with pytest.raises(ConfigError, match='does not say by which mean and std'):
        export_backbone(path, 'hf', tmp_path / 'out')
    export = export_backbone(path, 'timm', tmp_path / 'b.safetensors')
    assert 'pretrained_cfg_overlay' not in export.usage
    tensors.pop('ln1.bias')
    save_backbone(path, tensors, dict(backbone=metadata['backbone']))
    with pytest.raises(ConfigError, match='ln1.bias'):
        export_backbone(path, 'timm', tmp_path / 'c.safetensors')


@pytest.mark.parametrize(('target', 'name'), [('timm', 'a.pth'), ('mmseg', 'a.bin')])
def test_the_output_has_the_right_ending(files, tmp_path, target, name):
    with pytest.raises(ConfigError, match=f'--out must end in {TARGETS[target]}'):
        export_backbone(files('vit'), target, tmp_path / name)
