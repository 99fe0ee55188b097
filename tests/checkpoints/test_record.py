# Copyright (c) mmcim contributors. All rights reserved.
"""The record of a backbone, and rebuilding a backbone from it."""

import json

import mmseg.models
import pytest
import torch
from mmengine.config import Config
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from mmcim.apis import extract_features, load_backbone
from mmcim.checkpoints import BackboneFile, BackboneRecord, backbone_path, save_backbone
from mmcim.checkpoints.record import (
    config_after_pretraining,
    describe_backbone,
    describe_function,
    find_backbone_config,
    tensors_sha256,
)
from mmcim.models.backbones import FusedBEiTViT
from mmcim.utils import ConfigError

from .conftest import build, resnet, vit
from .corpus import INDEX, VIT, draw

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture
def tensors():
    whole = torch.arange(12.0).view(3, 4)
    # A view, a transposed one, tensors that share memory, and a counter.
    return dict(a=whole[:, 1], b=whole.t(), c=whole, n=torch.tensor(5))


def test_record_round_trip(tensors, tmp_path):
    path = tmp_path / 'new' / 'epoch_3_backbone.safetensors'
    record = BackboneRecord(
        VIT, tensors_sha256(tensors), 'enhancer.', {'.eps': 1e-6}, [2, 8], MEAN, STD,
        dict(method='CIM', epoch=3),
    )  # fmt: skip
    save_backbone(path, tensors, record)
    file = BackboneFile.read(path)
    assert file.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(file.tensors[name], value)
        assert file.tensors[name].dtype == value.dtype
    # The file has the backbone alone, without its prefix in the checkpoint.
    assert record.prefix == 'enhancer.' and file.record.prefix == ''
    record.prefix = ''
    assert file.record == record


def test_backbone_path_is_next_to_checkpoint():
    path = backbone_path('runs/a.b/best_accuracy_top1_epoch_3.pth')
    assert str(path) == 'runs/a.b/best_accuracy_top1_epoch_3_backbone.safetensors'


def test_save_is_atomic(tensors, tmp_path, monkeypatch):
    path = tmp_path / 'x_backbone.safetensors'
    record = BackboneRecord(VIT, tensors_sha256(tensors))
    save_backbone(path, tensors, record)
    before = path.read_bytes()

    def full(fd):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmcim.utils.files.os.fsync', full)
    with pytest.raises(ConfigError, match='No space'):
        save_backbone(path, dict(a=torch.zeros(9)), record)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_hash_covers_names_dtypes_shapes_and_values():
    tensors = dict(a=torch.arange(6.0).view(2, 3), b=torch.tensor(2))
    same = dict(b=torch.tensor(2), a=torch.arange(6.0).view(2, 3).t().contiguous().t())
    digest = tensors_sha256(tensors)
    assert tensors_sha256(same) == digest
    assert tensors_sha256(tensors | {f'attn.{INDEX}': torch.zeros(4)}) == digest
    for other in (
        dict(a=tensors['a']),
        dict(a=tensors['a'], c=tensors['b']),
        tensors | dict(a=tensors['a'].view(3, 2)),
        tensors | dict(a=tensors['a'].view(torch.int32)),
        tensors | dict(a=tensors['a'] + 1e-6),
        tensors | dict(b=torch.tensor(3)),
    ):
        assert tensors_sha256(other) != digest
    values = torch.tensor([True, False]), torch.zeros(0), torch.ones(2).bfloat16()
    assert len({tensors_sha256(dict(a=value)) for value in values}) == 3


# --------------------------------------------------------------------------------------
# The config of a backbone in that of a run


def test_config_at_prefix_takes_precedence():
    backbone = vit(init_cfg=dict(type='Pretrained', checkpoint='x'))
    model = dict(backbone=dict(type='ResNet'), enhancer=dict(backbone=backbone))
    assert find_backbone_config(Config(dict(model=model)), 'enhancer.backbone.') == VIT


def test_momentum_encoder_has_config_of_its_source():
    """ConMIM's momentum encoder is made by the model, not by a config."""
    cfg = Config(dict(model=dict(type='ConMIM', backbone=VIT)))
    assert find_backbone_config(cfg, 'momentum_encoder.backbone.') == VIT
    assert find_backbone_config(cfg, 'backbone.') == VIT


def test_backbone_of_another_scope():
    model = dict(backbone=dict(type='ResNet', depth=18))
    cfg = Config(dict(default_scope='mmseg', model=model))
    expected = dict(type='mmseg.ResNet', depth=18)
    assert find_backbone_config(cfg, 'backbone.') == expected
    model['backbone'] = vit('mmpretrain.VisionTransformer')
    cfg = Config(dict(default_scope='mmseg', model=model))
    assert find_backbone_config(cfg, 'backbone.') == model['backbone']


@pytest.mark.parametrize('model', [dict(type='CIM'), dict(backbone='an object'), None])
def test_model_without_backbone_config(model):
    assert find_backbone_config(Config(dict(model=model)), 'copy.backbone.') is None


CLASSES = [
    (VisionTransformer, 'mmpretrain.VisionTransformer'),
    ('mmpretrain.models.backbones.VisionTransformer', 'mmpretrain.VisionTransformer'),
    (FusedBEiTViT, 'mmpretrain.FusedBEiTViT'),
    ('mmcim.models.backbones.FusedBEiTViT', 'mmpretrain.FusedBEiTViT'),
    (mmseg.models.backbones.VisionTransformer, 'mmseg.VisionTransformer'),
]


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
@pytest.mark.parametrize(('kind', 'name'), CLASSES)
def test_pure_python_config_types(kind, name, scope):
    backbone = dict(
        VIT, type=kind, norm_cfg=dict(type='torch.nn.LayerNorm', eps=1e-3),
        layer_cfgs=[dict(act_cfg=dict(type=nn.ReLU)), dict(a=nn.GELU)],
    )  # fmt: skip
    cfg = Config(dict(default_scope=scope, model=dict(backbone=backbone)))
    assert find_backbone_config(cfg, 'backbone.') == dict(
        VIT, type=name, norm_cfg=dict(type='LN', eps=1e-3),
        layer_cfgs=[dict(act_cfg=dict(type='ReLU')), dict(a='GELU')],
    )  # fmt: skip


LAZY = """
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.classifiers import ImageClassifier
from torch.nn import ReLU

arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
model = dict(
    type=ImageClassifier,
    backbone=dict(
        type=VisionTransformer, arch=arch, img_size=32, patch_size=8,
        out_type='featmap', layer_cfgs=dict(act_cfg=dict(type=ReLU)),
    ),
)
"""


def test_lazy_config(tmp_path):
    """From the config file to the backbone rebuilt from the export."""
    (tmp_path / 'lazy.py').write_text(LAZY)
    cfg = Config.fromfile(tmp_path / 'lazy.py')
    model = MODELS.build(cfg.model)
    tensors = model.backbone.state_dict()
    record = describe_backbone(model, 'backbone.', tensors, cfg)
    relu = dict(act_cfg=dict(type='ReLU'))
    assert record.config == vit('mmpretrain.VisionTransformer', layer_cfgs=relu)
    save_backbone(tmp_path / 'x.safetensors', tensors, record)
    net = load_backbone(tmp_path / 'x.safetensors')
    assert type(net.layers[1].ffn.layers[0][1]) is nn.ReLU
    assert torch.equal(net.ln1.bias, model.backbone.ln1.bias)


# --------------------------------------------------------------------------------------
# What is recorded


class Model(nn.Module):
    def __init__(self, backbone, preprocessor=None):
        super().__init__()
        self.backbone = build(backbone)
        if preprocessor:
            self.data_preprocessor = MODELS.build(preprocessor)


def described(backbone, preprocessor=None):
    model = Model(backbone, preprocessor)
    cfg = Config(dict(model=dict(backbone=backbone)))
    return describe_backbone(model, 'backbone.', model.backbone.state_dict(), cfg)


def test_describe_backbone():
    config = vit(img_size=[16, 64])
    record = described(config)
    assert (record.config, record.prefix, record.grid) == (config, 'backbone.', (2, 8))
    assert record.origin == dict(method='Model')
    assert record.mean == record.std == []
    text = json.loads(record.dumps())
    assert text['grid'] == [2, 8]
    assert described(resnet()).grid is None


def test_non_json_values_do_not_stop_training():
    config = vit(dtype=torch.float16)
    record = BackboneRecord(dict(config, hook=print), '0')
    read = BackboneRecord(**json.loads(record.dumps()))
    assert read.config['dtype'] == 'torch.float16'


@pytest.mark.parametrize(
    ('preprocessor', 'known'),
    [
        (dict(mean=MEAN, std=STD, to_rgb=True), True),
        (dict(mean=MEAN, std=STD, bgr_to_rgb=True), True),
        (dict(mean=MEAN, std=STD), False),
        (dict(mean=[7.0] * 3, std=STD), False),
        (dict(mean=[7.0] * 3, std=[5.0] * 3), True),  # grey
        (dict(), False),
    ],
)
def test_normalization_is_recorded_for_rgb_only(preprocessor, known):
    """A model without to_rgb is trained on BGR images and cannot use RGB ones."""
    of_mmseg = 'bgr_to_rgb' in preprocessor
    kind = 'mmseg.SegDataPreProcessor' if of_mmseg else 'ClsDataPreprocessor'
    record = described(VIT, dict(preprocessor, type=kind))
    given = (preprocessor['mean'], preprocessor['std']) if known else ([], [])
    assert (record.mean, record.std) == given


def test_describe_function():
    found = describe_function(build(vit(drop_rate=0.1, drop_path_rate=0.1)))
    expected = {'ln1.eps': 1e-6, 'ln1.type': 'LayerNorm'}
    for i in range(2):
        expected |= {
            f'layers.{i}.attn.num_heads': 4,
            f'layers.{i}.ln1.eps': 1e-6,
            f'layers.{i}.ln2.eps': 1e-6,
            f'layers.{i}.ffn.layers.0.1.approximate': 'none',
            f'layers.{i}.ffn.layers.0.1.type': 'GELU',
        }
    assert expected.items() <= found.items()
    assert not [name for name in found if 'drop' in name or 'projection.type' in name]
    json.dumps(found)


def test_describe_function_of_resnet():
    found = describe_function(build(resnet(norm_cfg=dict(type='SyncBN', eps=1e-3))))
    assert found['.style'] == found['layer4.1.style'] == 'pytorch'
    assert found['bn1.type'] == 'BatchNorm' and found['bn1.eps'] == 1e-3
    assert found['relu.type'] == 'ReLU' and found['maxpool.type'] == 'MaxPool2d'


# --------------------------------------------------------------------------------------
# Encoders of pre-trainings, and the classes they are rebuilt as


FIXED = dict(stop_grad_conv1=True)
# Name -> the config of the pre-training, and the class for use after it. Defaults that
# differ between the two are taken in some and given in others.
NETWORKS = {
    'BEiT': (vit('FusedBEiTPretrainViT', out_type='raw'), 'FusedBEiTViT'),
    'BEiT, positions of layers': (
        vit(
            'FusedBEiTPretrainViT', use_rel_pos_bias=True, use_shared_rel_pos_bias=False,
            final_norm=False, layer_scale_init_value=0,
        ),
        'FusedBEiTViT',
    ),
    'CorrIM': (vit('FixedPositionViT', out_type='raw', **FIXED), 'VisionTransformer'),
    'MoCo v3': (vit('mmpretrain.MoCoV3ViT', **FIXED), 'VisionTransformer'),
    'MAE': (vit('MAEBaselineViT', mask_ratio=0.6), 'VisionTransformer'),
}  # fmt: skip
DEFAULTS = ('BEiT', 'MAE')


@pytest.fixture(params=NETWORKS)
def trained(request, tmp_path):
    """An encoder of a pre-training, its file, and the class for later use."""
    config, kind = NETWORKS[request.param]
    if request.param in DEFAULTS:
        config = {k: v for k, v in config.items() if k != 'out_type'}
    torch.manual_seed(0)
    preprocessor = dict(type='ClsDataPreprocessor', mean=[127.5] * 3, std=[63.75] * 3)
    model = Model(config, preprocessor)
    model.train(False)
    tensors = model.backbone.state_dict()
    cfg = Config(dict(model=dict(backbone=config)))
    path = tmp_path / 'epoch_1_backbone.safetensors'
    save_backbone(path, tensors, describe_backbone(model, 'backbone.', tensors, cfg))
    return model.backbone, path, kind


def test_rebuilt_backbone_gives_same_features(trained):
    network, path, kind = trained
    opened = load_backbone(path)
    assert type(opened).__name__ == kind
    images = torch.randn(2, 3, 32, 32)
    masked = type(network).__name__ in ('FusedBEiTPretrainViT', 'MAEBaselineViT')
    with torch.no_grad():
        before = network(images, None)[-1] if masked else network(images)[-1]
        after = opened(images)[-1]
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * before.abs().max())
    mask = {'mask_token'} if 'Pretrain' in type(network).__name__ else set()
    assert opened.state_dict().keys() == network.state_dict().keys() - mask


def test_rebuilt_backbone_accepts_other_sizes(trained):
    _, path, _ = trained
    network = load_backbone(path)
    assert all(parameter.requires_grad for parameter in network.parameters())
    images = [Image.effect_noise((48, 48), sigma) for sigma in (20, 60)]
    for size in ((32, 32), (64, 64), (24, 48)):
        assert extract_features(network, images, img_size=size).shape == (2, 32)
    # Built for that size, it gives the same features.
    larger = load_backbone(path, img_size=48)
    similarity = torch.cosine_similarity(
        extract_features(larger, images), extract_features(network, images, img_size=48)
    )
    assert similarity.min() > 0.99


def test_constructor_defaults_are_recorded():
    config = config_after_pretraining(dict(type='FusedBEiTPretrainViT', img_size=64))
    assert config == dict(
        type='FusedBEiTViT',
        img_size=64,
        final_norm=True,
        out_type='raw',
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        patch_cfg=dict(padding=0),
    )
    config = dict(type='MAEBaselineViT', arch='s', out_type='cls_token', mask_ratio=0.5)
    expected = dict(type='VisionTransformer', arch='s', out_type='cls_token')
    assert config_after_pretraining(config) == expected


def test_mocov3_architecture_is_kept():
    config = dict(type='FixedPositionViT', arch='mocov3-small', patch_size=16)
    network = MODELS.build(config_after_pretraining(config))
    expected = MODELS.build(config)
    assert network.arch_settings == expected.arch_settings


@pytest.mark.parametrize('kind', ['VisionTransformer', 'mmseg.MAEViT', 'ResNet'])
def test_other_backbones_are_unchanged(kind):
    config = dict(type=kind, mask_ratio=0.5)
    assert config_after_pretraining(config) == config


# --------------------------------------------------------------------------------------
# Users without mmcim


def test_torchvision_loads_exported_resnet(tmp_path):
    """With ``strict=False`` only the classifier is new."""
    from torchvision.models.resnet import resnet18

    config = dict(type='ResNet', depth=18)
    tensors = draw(config)
    save_backbone(
        tmp_path / 'x_backbone.safetensors', tensors, BackboneRecord(config, '')
    )
    net = resnet18()
    result = net.load_state_dict(
        load_file(tmp_path / 'x_backbone.safetensors'), strict=False
    )
    assert result.missing_keys == ['fc.weight', 'fc.bias']
    assert result.unexpected_keys == []
    ours = build(config)
    ours.load_state_dict(tensors)
    net.fc = net.avgpool = nn.Identity()
    net.eval(), ours.train(False)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(images), ours(images)[-1].flatten(1))
