# Copyright (c) mmcim contributors. All rights reserved.
"""A trained backbone and its config, out of both kinds of files."""

import json
import math

import mmseg.models  # noqa: F401
import pytest
import torch
from mmcim.checkpoints.metadata import backbone_metadata
from mmcim.checkpoints.source import TrainedBackbone, open_backbone, parse_config_text
from mmengine.config import Config
from mmpretrain.registry import MODELS

from mmcim.checkpoints import save_backbone
from mmcim.utils import ConfigError

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
BACKBONE = dict(type='VisionTransformer', arch=ARCH, img_size=(16, 32), patch_size=8)
CONFIG = dict(
    default_scope='mmpretrain',
    data_preprocessor=dict(mean=[127.5, 51.0, 0.0], std=[255.0, 25.5, 51.0], to_rgb=True),
    model=dict(
        type='ImageClassifier',
        backbone=dict(BACKBONE, init_cfg=dict(type='Pretrained', checkpoint='x.pth')),
        head=None,
    ),
)


def write_checkpoint(path, config, state, **meta):
    text = Config(config).pretty_text
    torch.save(dict(meta=dict(cfg=text, **meta), state_dict=state), path)
    return path


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return MODELS.build(BACKBONE)


@pytest.fixture
def checkpoint(network, tmp_path):
    state = {f'backbone.{k}': v for k, v in network.state_dict().items()}
    state['head.fc.weight'] = torch.zeros(2, 16)
    return write_checkpoint(tmp_path / 'epoch_3.pth', CONFIG, state, epoch=3, iter=90)


def test_training_checkpoint_and_plain_backbone_give_the_same(
    network, checkpoint, tmp_path
):
    plain = tmp_path / 'epoch_3_backbone.safetensors'
    metadata = dict(backbone=json.dumps(BACKBONE), mean='[127.5, 51.0, 0.0]')
    metadata['std'] = '[255.0, 25.5, 51.0]'
    save_backbone(plain, network.state_dict(), metadata)
    for path in (checkpoint, plain):
        source = open_backbone(path)
        assert source.tensors.keys() == network.state_dict().keys()
        for name, value in network.state_dict().items():
            assert torch.equal(source.tensors[name], value)
        assert source.normalization == ([0.5, 0.2, 0.0], [1.0, 0.1, 0.2])
        built = source.build()
        assert not built.training
        assert built.img_size == (16, 32) or built.img_size == [16, 32]
        assert built.state_dict().keys() == network.state_dict().keys()
    assert open_backbone(checkpoint).metadata['epoch'] == '3'
    assert open_backbone(checkpoint).metadata['method'] == 'ImageClassifier'


@pytest.mark.parametrize(
    ('preprocessor', 'expected'),
    [
        (dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True), True),
        (dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True), True),
        (dict(mean=[1, 2, 3], std=[4, 5, 6]), False),
        (dict(mean=[7, 7, 7], std=[4, 5, 6]), False),
        (dict(mean=[7, 7, 7], std=[5, 5, 5]), True),  # grey
    ],
)
def test_normalization_of_rgb_pictures_alone(network, tmp_path, preprocessor, expected):
    """Pictures come as BGR; a network that sees them so does not want RGB ones."""
    state = {f'backbone.{k}': v for k, v in network.state_dict().items()}
    config = dict(CONFIG, data_preprocessor=preprocessor)
    path = write_checkpoint(tmp_path / 'a.pth', config, state)
    values = preprocessor['mean'], preprocessor['std']
    scaled = tuple([round(v / 255, 8) for v in part] for part in values)
    assert open_backbone(path).normalization == (scaled if expected else None)
    # What the training writes beside its checkpoint says the same.
    of_mmseg = 'bgr_to_rgb' in preprocessor
    kind = 'mmseg.SegDataPreProcessor' if of_mmseg else 'ClsDataPreprocessor'
    model = torch.nn.Module()
    model.backbone = network
    model.data_preprocessor = MODELS.build(dict(preprocessor, type=kind))
    metadata = backbone_metadata(model, 'backbone.', Config(config), '')
    written = TrainedBackbone('', {}, BACKBONE, metadata).normalization
    assert written == (scaled if expected else None)


def test_arguments_in_place_of_the_configs(checkpoint):
    built = open_backbone(checkpoint).build(out_type='featmap', img_size=32)
    assert built.pos_embed.shape == (1, 17, 16)
    assert built(torch.zeros(1, 3, 32, 32))[0].shape == (1, 16, 4, 4)


def test_the_prefix_that_a_checkpoint_tells(network, tmp_path):
    model = dict(type='CIM', enhancer=dict(type='ResPix', backbone=BACKBONE))
    state = {f'enhancer.backbone.{k}': v for k, v in network.state_dict().items()}
    told = dict(backbone_prefix='enhancer.backbone.', backbone_grid=(2, 4))
    for meta in (told, {}):  # without it, the class knows
        path = write_checkpoint(
            tmp_path / 'a.pth', dict(CONFIG, model=model), state, **meta
        )
        source = open_backbone(path)
        assert source.tensors.keys() == network.state_dict().keys()
        assert source.config['img_size'] == (16, 32)
        assert source.metadata.get('grid') == ('[2, 4]' if meta else None)


def test_another_backbone_of_the_checkpoint(tmp_path):
    """ConMIM's online encoder, beside the momentum encoder that is kept."""
    backbone = dict(type='VisionTransformer', arch=ARCH, img_size=16, patch_size=8)
    model = dict(type='ConMIM', backbone=backbone)
    networks = {p: MODELS.build(backbone) for p in ('backbone.', 'momentum_encoder.')}
    state = {
        p + k: torch.randn_like(v)
        for p, network in networks.items()
        for k, v in network.state_dict().items()
    }
    told = dict(backbone_prefix='momentum_encoder.', backbone_grid=(2, 2))
    config = dict(CONFIG, model=model)
    path = write_checkpoint(tmp_path / 'a.pth', config, state, **told)
    for prefix, expected in (
        (None, 'momentum_encoder.'), ('backbone', 'backbone.'), ('backbone.', 'backbone.')
    ):  # fmt: skip
        source = open_backbone(path, prefix)
        assert torch.equal(source.tensors['cls_token'], state[expected + 'cls_token'])
        assert source.config == backbone
        assert ('grid' in source.metadata) == (prefix is None)
    with pytest.raises(ConfigError, match=r"no tensors with the prefix 'generator\.'"):
        open_backbone(path, 'generator')
    save_backbone(tmp_path / 'a.safetensors', state, dict(backbone=json.dumps(backbone)))
    with pytest.raises(ConfigError, match='a.safetensors has no prefixes'):
        open_backbone(tmp_path / 'a.safetensors', 'backbone')


def test_networks_of_other_scopes_say_so(tmp_path):
    model = dict(type='EncoderDecoder', backbone=dict(type='ResNet', depth=18))
    config = dict(default_scope='mmseg', model=model)
    state = {'backbone.conv1.weight': torch.zeros(1)}
    path = write_checkpoint(
        tmp_path / 'a.pth', config, state, backbone_prefix='backbone.'
    )
    assert open_backbone(path).config == dict(type='mmseg.ResNet', depth=18)
    assert open_backbone(path).normalization is None


def test_a_tokenizers_checkpoint_has_no_backbone(tmp_path):
    model = dict(type='DiscreteVAETrainer', backbone=dict(type='DiscreteVAENet'))
    state = {'backbone.encoder.weight': torch.zeros(1)}
    path = write_checkpoint(tmp_path / 'a.pth', dict(model=model), state)
    with pytest.raises(ConfigError, match='of a DiscreteVAETrainer and has no backbone'):
        open_backbone(path)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (dict(state_dict={}), r"no meta\['cfg'\]"),
        ([1, 2], r"no meta\['cfg'\]"),
        (dict(meta=dict(cfg='model = ('), state_dict={}), 'config cannot be read'),
        (dict(meta=dict(cfg='a = 1'), state_dict={}), 'no model of plain values'),
    ],
)
def test_clear_errors(tmp_path, content, message):
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match=message):
        open_backbone(tmp_path / 'a.pth')


def test_a_network_that_cannot_be_built(tmp_path):
    metadata = dict(backbone='{"type": "VisionTransformer", "arch": "none"}')
    save_backbone(tmp_path / 'a.safetensors', dict(a=torch.zeros(1)), metadata)
    with pytest.raises(
        ConfigError, match='a.safetensors: its backbone .* cannot be built'
    ):
        open_backbone(tmp_path / 'a.safetensors').build()


@pytest.mark.parametrize(
    'name', ['cim/vit-b_revdet_8xb256-300e.py', 'quickstart/finetune.py']
)
def test_reads_what_mmengine_writes(repo, name):
    cfg = Config.fromfile(repo / 'configs' / name)
    assert parse_config_text(cfg.pretty_text, '') == cfg.to_dict()


def test_literals():
    text = (
        'model = dict(a=-1, b=[(1, 2), dict(c=None)], d={"x.y": dict(e=inf), 3: -inf})\n'
        "model_text = 'not a call'\nfunction = print\n"
    )
    assert parse_config_text(text, '') == dict(
        model=dict(
            a=-1, b=[(1, 2), dict(c=None)], d={'x.y': dict(e=math.inf), 3: -math.inf}
        ),
        model_text='not a call',
    )


@pytest.mark.parametrize(
    'value',
    [
        "__import__('pathlib').Path(FILE).touch()",
        "dict(a=__import__('pathlib').Path(FILE).touch())",
        "dict(**__import__('pathlib').Path(FILE).touch())",
        "[open(FILE, 'w')]",
    ],
)
def test_nothing_is_executed(tmp_path, value):
    text = f'model = {value.replace("FILE", repr(str(tmp_path / "file")))}'
    with pytest.raises(ConfigError, match='no model of plain values'):
        parse_config_text(text, 'a.pth')
    assert list(tmp_path.iterdir()) == []
