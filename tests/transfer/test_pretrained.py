# Copyright (c) mmcim contributors. All rights reserved.
"""``init_cfg=dict(type='Pretrained', ...)`` in models of mmpretrain and mmseg."""

import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import mmseg.models  # noqa: F401
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import WEIGHT_INITIALIZERS, DefaultScope
from mmpretrain.registry import MODELS
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import nn

from mmcim.transfer import Pretrained
from mmcim.utils import ConfigError

from .conftest import arrived, build, resnet, vit


def built(config, scope='mmpretrain'):
    """A model as a runner makes it: built, then initialised."""
    registry = dict(mmpretrain=MODELS, mmseg=MMSEG_MODELS)[scope]
    with DefaultScope.overwrite_default_scope(scope):
        model = registry.build(config)
        model.init_weights()
    return model


def pretrained(checkpoint, **kwargs):
    return dict(type='Pretrained', checkpoint=str(checkpoint), **kwargs)


def saved(config, path, prefix='enhancer.backbone.'):
    state = build(config).state_dict()
    torch.save(dict(state_dict={prefix + k: v for k, v in state.items()}), path)
    return state


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / 'epoch_1.pth'


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg', 'mmengine'])
def test_takes_mmengines_place(scope):
    with DefaultScope.overwrite_default_scope(scope):
        made = WEIGHT_INITIALIZERS.build(dict(type='Pretrained', checkpoint='x'))
    assert type(made) is Pretrained


@pytest.mark.parametrize('prefix', [None, 'enhancer.backbone.'])
@pytest.mark.parametrize('type', ['VisionTransformer', 'FusedBEiTViT', 'BEiTViT'])
def test_backbone_of_a_classifier(checkpoint, type, prefix, log):
    state = saved(vit(type, final_norm=True), checkpoint)
    cfg = pretrained(checkpoint, **(dict(prefix=prefix) if prefix else {}))
    backbone = vit(type, final_norm=True, out_type='avg_featmap', init_cfg=cfg)
    model = built(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
        )
    )
    assert arrived(model.backbone, state) >= set(state)
    assert f'{len([k for k in state if "index" not in k])} of' in log[0]
    # What is new begins as a norm does.
    assert torch.equal(model.backbone.ln2.weight, torch.ones(32))


@pytest.mark.parametrize('key', ['pretrained', 'init_cfg'])
def test_whole_classifier(checkpoint, key, log):
    state = saved(vit(), checkpoint)
    cfg = str(checkpoint) if key == 'pretrained' else pretrained(checkpoint)
    model = built(
        dict(
            type='ImageClassifier',
            backbone=vit(),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
            **{key: cfg},
        )
    )
    assert arrived(model.backbone, state) == set(state)
    assert 'missing: head.fc.weight, head.fc.bias' in log[0]
    # The head has the initialisation of its own.
    assert 0 < model.head.fc.weight.std() < 0.02


def segmentor(backbone, channels, **kwargs):
    head = dict(
        type='FCNHead', in_channels=channels, in_index=-1, channels=channels, num_convs=0,
        concat_input=False, num_classes=3,
    )  # fmt: skip
    return dict(
        type='EncoderDecoder',
        backbone=backbone,
        decode_head=head,
        train_cfg={},
        test_cfg=dict(mode='whole'),
        **kwargs,
    )


@pytest.mark.parametrize('type', ['VisionTransformer', 'FusedBEiTViT', 'BEiTViT'])
def test_mmpretrain_backbone_in_a_segmentor(checkpoint, type, log):
    """At another, rectangular size, where mmpretrain's own loading needs SciPy < 1.14."""
    state = saved(vit(type), checkpoint)
    config = vit(f'mmpretrain.{type}', (48, 64), init_cfg=pretrained(checkpoint))
    model = built(segmentor(config, 32), 'mmseg')
    positions = [name for name in state if 'pos_embed' in name or 'table' in name]
    indices = [name for name in state if name.endswith('index')]
    assert arrived(model.backbone, state) == set(state) - {*positions, *indices}
    assert f'{len(positions)} resized: ' in log[0]
    for name in positions:
        assert model.state_dict()[f'backbone.{name}'].std() > 0.1  # not mmseg's 0.02


@pytest.mark.parametrize('kind', ['mmpretrain.ResNet', 'ResNetV1c', 'ResNet'])
def test_resnets_of_a_segmentor(checkpoint, kind):
    """mmseg's own, and mmpretrain's; V1c has another stem."""
    config = {**resnet(out_indices=(3,)), 'type': kind}
    with DefaultScope.overwrite_default_scope('mmseg'):
        source = MMSEG_MODELS.build(config)
    for value in source.state_dict().values():
        value.copy_(torch.rand_like(value.float()))
    torch.save(source.state_dict(), checkpoint)
    config['init_cfg'] = pretrained(checkpoint)
    model = built(segmentor(config, 64), 'mmseg')
    assert arrived(model.backbone, source.state_dict()) == set(source.state_dict())


def test_segmentor_from_a_wrong_stem(checkpoint):
    saved({**resnet(), 'type': 'ResNet'}, checkpoint, '')
    config = {**resnet(), 'type': 'ResNetV1c', 'init_cfg': pretrained(checkpoint)}
    with pytest.raises(ConfigError, match=r'missing: stem\.0-1,3-4,6-7\.weight, '):
        built(segmentor(config, 64), 'mmseg')


def test_whole_segmentor(checkpoint, log):
    """``pretrained`` at the top of a segmentor means its backbone."""
    state = saved({**resnet(), 'type': 'ResNet'}, checkpoint, 'backbone.')
    config = {**resnet(), 'type': 'ResNet', 'pretrained': None, 'init_cfg': None}
    model = built(segmentor(config, 64, init_cfg=pretrained(checkpoint)), 'mmseg')
    assert arrived(model.backbone, state) == set(state)
    assert 'missing: decode_head.conv_seg.weight, decode_head.conv_seg.bias' in log[0]


class Neck(BaseModule):
    """No backbone at all."""

    def __init__(self, init_cfg):
        super().__init__(init_cfg)
        self.fc = nn.Linear(2, 2)


def test_other_modules(checkpoint):
    state = {'neck.fc.weight': torch.ones(2, 2), 'neck.fc.bias': torch.ones(2)}
    torch.save(dict(state_dict=state), checkpoint)
    neck = Neck(pretrained(checkpoint, prefix='neck.'))
    neck.init_weights()
    assert arrived(neck, state, 'neck.') == {'fc.weight', 'fc.bias'}
    with pytest.raises(ConfigError, match=r"under prefix 'head\.' is named like one"):
        Neck(pretrained(checkpoint, prefix='head.')).init_weights()


def test_comes_after_other_initialisers(checkpoint):
    state = {'fc.weight': torch.ones(2, 2), 'fc.bias': torch.ones(2)}
    torch.save(state, checkpoint)
    others = dict(type='Constant', val=5, layer='Linear')
    neck = Neck([pretrained(checkpoint), others])
    neck.init_weights()
    assert arrived(neck, state) == set(state)


@pytest.mark.parametrize('config', [vit(), resnet()])
def test_list_that_mmpretrain_would_not_respect(checkpoint, config):
    """Its backbones initialise again, unless init_cfg is the dict itself."""
    saved(config, checkpoint)
    config = {**config, 'init_cfg': [pretrained(checkpoint)]}
    with pytest.raises(ConfigError, match=r'is a list, .* alone'):
        built(config)


def test_initialisation_is_logged(checkpoint, monkeypatch):
    state = {'fc.weight': torch.rand(2, 2), 'fc.bias': torch.rand(2)}
    torch.save(state, checkpoint)
    neck, infos = Neck(pretrained(checkpoint)), []
    monkeypatch.setattr(
        neck, '_dump_init_info', lambda: infos.extend(neck._params_init_info.values())
    )
    neck.init_weights()
    expected = f'Pretrained: load from {checkpoint}'
    assert [info['init_info'] for info in infos] == [expected] * 2


def test_grid_of_a_rectangle(checkpoint):
    state = saved(vit(img_size=(16, 64)), checkpoint)
    cfg = pretrained(checkpoint, grid=[2, 8])
    model = built(vit(img_size=(32, 128), init_cfg=cfg))
    assert model.pos_embed.shape[1] == 4 * 16 + 1
    assert torch.equal(model.pos_embed[:, 0], state['pos_embed'][:, 0])


# --------------------------------------------------------------------------------------
# Downloads


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ('evil_was_here',)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve ``tmp_path/www``; downloads are kept in ``tmp_path/home``."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'www').mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / 'www'))
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize('scheme', ['http', 'torchvision', 'open-mmlab'])
def test_downloads(server, tmp_path, scheme, monkeypatch):
    state = saved(resnet(), tmp_path / 'www/net.pth')
    urls = {'net': f'{server}/net.pth'}
    where = 'mmengine.runner.checkpoint.get_'
    monkeypatch.setattr(where + 'torchvision_models', lambda: urls)
    monkeypatch.setattr(where + 'external_models', lambda: urls)
    url = urls['net'] if scheme == 'http' else f'{scheme}://net'
    model = built({**resnet(), 'init_cfg': pretrained(url)})
    assert arrived(model, state) == set(state)
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


def test_downloaded_code_is_not_run(server, tmp_path):
    torch.save(dict(state_dict={}, evil=Evil()), tmp_path / 'www/evil.pth')
    config = {**resnet(), 'init_cfg': pretrained(f'{server}/evil.pth')}
    with pytest.raises(ConfigError, match='evil.pth holds more .* could run any code'):
        built(config)
    assert not (tmp_path / 'evil_was_here').exists()


def test_local_code_is_not_run(tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={}, evil=Evil()), checkpoint)
    with pytest.raises(ConfigError, match='unpickling it could run any code'):
        built({**resnet(), 'init_cfg': pretrained(checkpoint)})
    assert not (tmp_path / 'evil_was_here').exists()


@pytest.mark.parametrize('url', ['{}/none.pth', 'torchvision://no_such_network'])
def test_failed_downloads(server, url):
    url = url.format(server)
    config = {**resnet(), 'init_cfg': pretrained(url)}
    with pytest.raises(ConfigError, match=f'{url} cannot be loaded: .*(404|no_such)'):
        built(config)
