# Copyright (c) mmcim contributors. All rights reserved.
"""Exported models, loaded by the printed code, give the same features.

The code that the tool prints is executed; each time both networks see real images.
"""

import sys

import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors import safe_open
from torchvision.transforms.functional import pil_to_tensor

from mmcim.apis import extract_features, load_backbone
from mmcim.checkpoints import BackboneRecord, read_weights, save_backbone
from mmcim.checkpoints import export as export_module
from mmcim.checkpoints.export import TARGETS, export_backbone
from mmcim.checkpoints.export.samples import write_samples
from mmcim.checkpoints.record import config_after_pretraining, tensors_sha256

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
    'beit key bias': dict(BEIT, type='BEiTViT', bias=True),
    'beit no bias': dict(BEIT, type='BEiTViT', bias=False),
    'beit two norms': dict(BEIT, final_norm=True),
    'beit of a pre-training': dict(SHARED, type='FusedBEiTPretrainViT', out_type='raw'),
    'resnet50': RESNET,
    'resnet of a segmentor': dict(
        type='mmpretrain.ResNet', depth=18, norm_cfg=dict(type='SyncBN'),
        out_indices=(0, 1, 2, 3),
    ),
    'caffe': dict(type='ResNet', depth=50, style='caffe'),
    'deep stem': dict(type='ResNetV1d', depth=18),
    'relu': dict(VIT, layer_cfgs=dict(act_cfg=dict(type='ReLU'))),
    'swiglu': dict(VIT, layer_cfgs=dict(ffn_type='swiglu_fused')),
    'overlapping': dict(VIT, patch_cfg=dict(stride=4)),
    'timm': dict(type='TIMMBackbone', model_name='resnet18'),
}  # fmt: skip
VITS = [name for name in NETWORKS if name.startswith('vit')]
BEITS = [name for name in NETWORKS if name.startswith('beit')]

# Not supported by the library, which the comparison finds.
IMPOSSIBLE = {
    'timm': [
        'vit two norms', 'vit eps', 'beit two norms', 'caffe', 'deep stem', 'relu',
        'swiglu', 'overlapping', 'timm', 'beit key bias', 'beit featmap',
    ],
    'hf': [
        'vit LayerScale', 'vit averaged', 'vit no norm', 'vit no class token',
        'vit two norms', 'vit rectangle', 'beit rectangle', 'beit two norms',
        'resnet50', 'relu',
    ],
}  # fmt: skip
CANDIDATES = {
    'timm': [*VITS, *BEITS, 'resnet50', 'resnet of a segmentor'],
    'hf': [*VITS, *BEITS],
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


def out_of(target, folder):
    return folder / f'out{TARGETS[target][1]}'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Exported backbones of all kinds, by name, with random weights."""
    folder = tmp_path_factory.mktemp('backbones')
    paths = {}

    def write(name):
        if name not in paths:
            paths[name] = folder / f'{name}.safetensors'
            network = randomize(MODELS.build(dict(NETWORKS[name])))
            save(paths[name], NETWORKS[name], network, mean=MEAN, std=STD)
        return paths[name]

    return write


def save(path, config, network, **known):
    """Write a backbone as a training exports it."""
    tensors = network.state_dict()
    config = config_after_pretraining(config)
    save_backbone(path, tensors, BackboneRecord(config, tensors_sha256(tensors), **known))


def randomize(network):
    """Give all tensors non-trivial values, also norms and statistics."""
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
def image_files(imagenette_mini):
    """Paths of real images, in a few classes."""
    return sorted((imagenette_mini / 'val').rglob('*.JPEG'))[::150]


def run_usage(usage, files):
    """Execute the printed code."""
    names = dict(files=files)
    with torch.no_grad():
        exec(usage, names)
    return names


def features_of(path, name, images, **overrides):
    """Features of mmpretrain's own model."""
    network = MODELS.build({**NETWORKS[name], **overrides})
    network.load_state_dict(read_weights(path).tensors, strict=False)
    network.train(False)
    masked = NETWORKS[name]['type'] == 'FusedBEiTPretrainViT'
    with torch.no_grad():
        return (network(images, None) if masked else network(images))[-1]


def assert_equal_features(found, expected):
    """Equal to 1e-5, for features of which the largest are about 1 or more."""
    scale = max(1.0, expected.abs().max().item())
    assert expected.std() > 0.01 * scale, 'the images make no difference'
    assert expected.std(dim=0).mean() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(('target', 'name'), pairs(POSSIBLE))
def test_exported_features_match(files, image_files, tmp_path, target, name):
    if target == 'hf':
        pytest.importorskip('transformers')
    path, out = files(name), out_of(target, tmp_path)
    export = export_backbone(path, target, out)
    assert export.difference < 1e-5
    averaged = NETWORKS[name].get('out_type', 'avg_featmap') == 'avg_featmap'
    raw = {} if averaged or 'resnet' in name else dict(out_type='raw')
    names = run_usage(export.usage, image_files)
    assert not names['model'].training
    assert_equal_features(
        names['features'], features_of(path, name, names['pixels'], **raw)
    )
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ('target', 'name'),
    [('timm', 'beit rectangle'), ('timm', 'resnet50'), ('hf', 'beit')],
)
def test_image_files_are_read_as_by_mmcim(files, image_files, tmp_path, target, name):
    """Of every shape and mode: nothing is squeezed, clipped or refused."""
    export = export_backbone(files(name), target, out_of(target, tmp_path))
    samples = [*image_files, *write_samples(tmp_path / 'samples')]
    found = run_usage(export.usage, samples)['features'].flatten(1)
    backbone = load_backbone(files(name))
    if 'resnet' in name:
        found = found.unflatten(1, (2048, -1)).mean(2)
    expected = extract_features(backbone, samples)
    distances = torch.cdist(found, expected)
    own = distances.diagonal().clone()
    assert (own < 0.2 * distances.fill_diagonal_(torch.inf).amin(1)).all()


@pytest.mark.parametrize('target', TARGETS)
@pytest.mark.parametrize('name', ['vit', 'beit norm', 'beit of a pre-training'])
def test_exported_network_fine_tunes(files, image_files, tmp_path, target, name):
    """As a classifier of images, not of tokens, all of which is trained."""
    if target == 'hf':
        transformers = pytest.importorskip('transformers')
    out = out_of(target, tmp_path)
    usage = export_backbone(files(name), target, out).usage
    names = run_usage(usage, image_files)
    if target == 'timm':
        model = names['model']
        model.reset_classifier(10)
        logits = model(names['pixels'])
    else:
        kind = transformers.AutoModelForImageClassification
        model = kind.from_pretrained(out, num_labels=10)
        logits = model(names['pixels']).logits
    assert logits.shape == (len(image_files), 10)
    logits.sum().backward()
    untrained = [key for key, value in model.named_parameters() if value.grad is None]
    assert not untrained


@pytest.mark.parametrize(
    ('right', 'wrong'),
    [
        ("'crop_pct': 1.0", "'crop_pct': 0.9"),
        ("'crop_pct': 1.0", "'crop_pct': 1.0, 'crop_mode': 'squash'"),
        ("'I;16'", "'none'"),
        ('.exif_transpose(', '.grayscale('),
    ],
)
def test_other_preprocessing_writes_nothing(files, tmp_path, monkeypatch, right, wrong):
    write = export_module.timm.write
    monkeypatch.setattr(export_module, '_READ', export_module._READ.replace(right, wrong))
    monkeypatch.setattr(
        export_module.timm, 'write', lambda *args: write(*args).replace(right, wrong)
    )
    with pytest.raises(ValueError, match='features of image files differ by'):
        export_backbone(files('beit'), 'timm', tmp_path / 'out.safetensors')
    assert list(tmp_path.iterdir()) == []


def test_heads_are_named_as_left_out(tmp_path):
    backbone = randomize(MODELS.build(dict(BEIT)))
    state = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    record = BackboneRecord(
        BEIT, tensors_sha256(backbone.state_dict()), 'backbone.', mean=MEAN, std=STD
    )
    state |= {'head.fc.weight': torch.zeros(10, 48), 'head.fc.bias': torch.zeros(10)}
    torch.save(
        dict(state_dict=state, meta=dict(backbone=record.dumps())), tmp_path / 'a.pth'
    )
    export = export_backbone(tmp_path / 'a.pth', 'timm', tmp_path / 'a.safetensors')
    assert export.left_out == ['head.*']


@pytest.mark.parametrize(('target', 'name'), pairs(IMPOSSIBLE))
def test_unsupported_network_raises(files, tmp_path, target, name):
    if target == 'hf':
        pytest.importorskip('transformers')
    path, kind = files(name), NETWORKS[name]['type']
    message = f'^this {kind} cannot be exported to {target}: .*. Nothing was written$'
    with pytest.raises(ValueError, match=message) as error:
        export_backbone(path, target, out_of(target, tmp_path))
    assert len(str(error.value)) < 450
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('target', 'name', 'size'),
    [
        ('timm', 'vit', (48, 80)),
        ('timm', 'beit of a pre-training', (48, 80)),
        ('hf', 'beit shared', (96, 96)),
    ],
)
def test_other_image_size(files, image_files, tmp_path, target, name, size):
    if target == 'hf':
        pytest.importorskip('transformers')
    export = export_backbone(files(name), target, out_of(target, tmp_path), img_size=size)
    resized = load_backbone(files(name), img_size=size)
    names = run_usage(export.usage, image_files)
    assert tuple(names['pixels'].shape[2:]) == size
    resized.out_type = 'avg_featmap' if resized.out_type == 'avg_featmap' else 'raw'
    assert_equal_features(names['features'], resized(names['pixels'])[-1].detach())


def test_img_size_of_resnet_raises(files, tmp_path):
    with pytest.raises(ValueError, match='img_size'):
        out = tmp_path / 'out.safetensors'
        export_backbone(files('resnet50'), 'timm', out, img_size=(64, 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['vit', 'beit'])
def test_transformers_preprocessor_config(files, image_files, tmp_path, name):
    """Images of the right size are preprocessed as in training."""
    transformers = pytest.importorskip('transformers')
    export_backbone(files(name), 'hf', tmp_path / 'out')
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / 'out')
    images = [Image.open(p).convert('RGB').resize((SIZE, SIZE)) for p in image_files]
    found = processor(images=images, return_tensors='pt')['pixel_values']
    pixels = torch.stack([pil_to_tensor(image) for image in images]).float()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(found, (pixels - mean) / std, rtol=0, atol=1e-5)
    for mode in ('L', 'P', 'RGBA', 'CMYK', 'I;16'):  # without the printed reader
        image = images[0].resize((100, 80)).convert('L' if mode == 'I;16' else mode)
        large = processor(images=image.convert(mode), return_tensors='pt')
        assert large['pixel_values'].shape == (1, 3, SIZE, SIZE)


def test_transformers_loads_all_tensors(files, tmp_path):
    transformers = pytest.importorskip('transformers')
    for name, kind in (('vit', 'ViTModel'), ('beit shared', 'BeitModel')):
        out = tmp_path / name
        export_backbone(files(name), 'hf', out)
        _, info = getattr(transformers, kind).from_pretrained(
            out, add_pooling_layer=False, output_loading_info=True
        )
        assert not any(info.values())


def test_timm_file_names_its_arguments(files, tmp_path):
    out = tmp_path / 'vit.safetensors'
    export = export_backbone(files('vit'), 'timm', out)
    with safe_open(out, 'pt') as file:
        call = file.metadata()['create_model']
    assert call.replace("'vit.safetensors'", repr(str(out))) in export.usage


@pytest.mark.parametrize('value', [1.0, torch.nan])
def test_feature_mismatch_writes_nothing(files, tmp_path, monkeypatch, value):
    """Comparing features finds what the conversion overlooks."""
    original = export_module.timm.from_mmpretrain

    def wrong(tensors):
        tensors = original(tensors)
        tensors['blocks.1.mlp.fc1.bias'] = tensors['blocks.1.mlp.fc1.bias'] + value
        return tensors

    monkeypatch.setattr(export_module.timm, 'from_mmpretrain', wrong)
    with pytest.raises(ValueError, match='features differ by .* Nothing was written'):
        export_backbone(files('vit'), 'timm', tmp_path / 'out.safetensors')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('target', ['timm', 'hf'])
def test_existing_file_is_not_replaced(files, tmp_path, target):
    out = out_of(target, tmp_path)
    out.write_text('a file')
    with pytest.raises(ValueError, match='exists; delete it, or take another --out'):
        export_backbone(files('beit'), target, out)
    assert out.read_text() == 'a file'


def test_missing_tensors_raise(files, tmp_path):
    """Without mean and std there is no preprocessing; without a record nothing."""
    network = MODELS.build(dict(VIT))
    path = tmp_path / 'a.safetensors'
    save(path, VIT, network)
    for target in TARGETS:
        with pytest.raises(ValueError, match='no mean and std are recorded'):
            export_backbone(path, target, out_of(target, tmp_path))
    torch.save(network.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a\.pth does not say which network'):
        export_backbone(tmp_path / 'a.pth', 'timm', tmp_path / 'c.safetensors')
    del network.ln1
    save(path, VIT, network)
    with pytest.raises(ValueError, match=r'a\.safetensors .* ln1\.bias missing'):
        export_backbone(path, 'timm', tmp_path / 'c.safetensors')
    assert {file.name for file in tmp_path.iterdir()} == {'a.pth', 'a.safetensors'}


def test_missing_library_raises(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ValueError, match='exported to hf: .*transformers'):
        export_backbone(files('vit'), 'hf', tmp_path / 'out')
    assert list(tmp_path.iterdir()) == []


def test_output_suffix_is_checked(files, tmp_path):
    with pytest.raises(ValueError, match=r'--out must end with \.safetensors, got .*pth'):
        export_backbone(files('vit'), 'timm', tmp_path / 'a.pth')


def test_failed_write_leaves_nothing(files, tmp_path, monkeypatch):
    """For example a full disk."""

    def full(fd):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmcim.utils.files.os.fsync', full)
    with pytest.raises((OSError, ValueError), match='No space left'):
        export_backbone(files('beit'), 'timm', tmp_path / 'out.safetensors')
    assert list(tmp_path.iterdir()) == []
