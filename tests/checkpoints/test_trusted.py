# Copyright (c) mmcim contributors. All rights reserved.
"""Files of weights may name known backbones only, and run no code."""

import json
import sys

import pytest
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmcim.apis import load_backbone
from mmcim.checkpoints import BackboneRecord
from mmcim.checkpoints.export import export_backbone
from mmcim.checkpoints.record import tensors_sha256
from mmcim.checkpoints.trusted import registered_class, trusted_backbone_config
from mmcim.utils import ConfigError

from .conftest import arrived, vit
from .corpus import below, draw, own_checkpoint, own_file

NORM = dict(type='LN', eps=1e-6)
CALL = dict(type='os.system', command='touch {0}')
# What a config must not contain at any level.
BAD = {
    'call': CALL,
    'nested call': {**vit(), 'norm_cfg': CALL},
    'in a list': {**vit(), 'layer_cfgs': [dict(norm_cfg=CALL), {}]},
    'module': dict(type='evil.ViT'),
    'top-level module': dict(type='evil'),
    'scope that is no library': {**vit(), 'norm_cfg': dict(type='evil.LN')},
    'class by another key': {**vit(), 'patch_cfg': dict(conv_type='evil')},
    'no backbone': dict(type='ImageClassifier', backbone=vit()),
    'no type': dict(arch='base'),
    'no dict': ['VisionTransformer'],
    'file': {**vit(), 'out_type': 'weights/vit'},
    'class that reads files': {
        **vit(),
        'layer_cfgs': dict(act_cfg=dict(type='CLIPGenerator', tokenizer_path='{0}')),
    },
    'class that downloads': {
        **vit(),
        'norm_cfg': dict(type='HuggingFaceClassifier', model_name='gpt2'),
    },
    'address': dict(type='TIMMBackbone', model_name='hf-hub:someone/vit'),
    'file without a folder': {**vit(), 'interpolate_mode': 'a.pth'},
}


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A package with a visible side effect of its import."""
    (tmp_path / 'evil').mkdir()
    trace = f'open({str(tmp_path / "ran")!r}, "w")\n'
    (tmp_path / 'evil/__init__.py').write_text(trace)
    (tmp_path / 'evil/registry.py').write_text(trace)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / 'ran'
    sys.modules.pop('evil', None)


def write(folder, config, kind):
    """A file of the tensors of ``vit()`` with another recorded config."""
    config = json.loads(json.dumps(config).replace('{0}', str(folder / 'ran')))
    return own_file(folder, kind, config, draw(vit()))


@pytest.mark.parametrize('kind', ['exported', 'pretraining'])
@pytest.mark.parametrize('name', BAD)
def test_untrusted_config_raises(evil, name, kind):
    path = write(evil.parent, BAD[name], kind)
    with pytest.raises(ConfigError, match=rf'{path.name}: .* its config '):
        load_backbone(path)
    with pytest.raises(ConfigError, match=rf'{path.name}: .* its config '):
        export_backbone(path, 'timm', evil.parent / 'out.safetensors')
    # The weights still load, but nothing is built from the config.
    init = dict(type='Pretrained', checkpoint=str(path))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        net = MODELS.build({**vit(), 'init_cfg': init})
        net.init_weights()
    assert arrived(net, draw(vit())) == set(net.state_dict())
    assert not evil.exists() and 'evil' not in sys.modules


def test_model_type_is_not_imported(evil):
    """The config text of the training in ``meta['cfg']`` is not used either."""
    state, config = draw(vit()), dict(type='evil.Net', backbone=vit())
    record = BackboneRecord(vit(), tensors_sha256(state), 'backbone.')
    path = evil.parent / 'x.pth'
    own_checkpoint(path, config, below('backbone.', state), record)
    assert load_backbone(path).img_size == (32, 32)
    assert not evil.exists() and 'evil' not in sys.modules


def test_places_of_earlier_weights_are_left_out():
    init = dict(type='Pretrained', checkpoint='http://somewhere/x.pth')
    config = {**vit(), 'init_cfg': init, 'patch_cfg': dict(init_cfg=[init])}
    timm = dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224.augreg_in21k')
    for given, expected in (
        (config, {**vit(), 'patch_cfg': {}}),
        ({**timm, 'pretrained': True, 'checkpoint_path': 'x.pth'}, timm),
        (
            dict(timm, diffusion_cfg=dict(checkpoint='payload')),
            dict(timm, diffusion_cfg={}),
        ),
    ):
        assert trusted_backbone_config(given) == expected


@pytest.mark.parametrize(
    'config',
    [
        dict(type='RegNet', arch='regnetx_1.6gf'),
        dict(type='ConvMixer', arch='768/32'),
        {**vit(), 'patch_cfg': dict(conv_type='Conv2d', norm_cfg=dict(type='LN'))},
        dict(
            type='ResNet',
            depth=18,
            norm_cfg=dict(type='SyncBN'),
            act_cfg=dict(type='GELU'),
        ),
        dict(type='FusedBEiTViT', arch='base', norm_cfg=dict(type='LN', eps=1e-6)),
    ],
)
def test_trusted_config_is_unchanged(config):
    assert trusted_backbone_config(config) == config


@pytest.mark.parametrize(
    ('name', 'found'),
    [
        ('VisionTransformer', 'mmpretrain.models.backbones.vision_transformer'),
        ('mmpretrain.ResNet', 'mmpretrain.models.backbones.resnet'),
        ('FusedBEiTViT', 'mmcim.models.backbones.beit'),
        ('BN', 'torch.nn.modules.batchnorm'),  # of a parent registry
        ('mmengine.BN', 'torch.nn.modules.batchnorm'),
        ('os.system', None),
        ('collections.OrderedDict', None),
        ('antigravity', None),
        (None, None),
    ],
)
def test_registered_backbones_are_trusted(name, found):
    cls = registered_class(name)
    assert (cls and cls.__module__) == found
    assert 'antigravity' not in sys.modules
