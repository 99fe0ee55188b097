# Copyright (c) mmcim contributors. All rights reserved.
import copy
from importlib.util import find_spec

import pytest
from mmengine.config import Config

from mmcim.dependencies import INSTALL_MMDET
from mmcim.utils import ConfigError, build_runner, load_config
from mmcim.utils.launch import initial_weights


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'base.py').write_text("model = dict(arch='deit-base')\n")
    return tmp_path


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("_base_ = 'nowhere.py'", 'a.py: .*No such file .*nowhere.py'),
        (
            "_base_ = 'base.py'\nmodel = dict(arch=dict(width=8))",
            'a.py: .*cannot inherit from base',
        ),
        ('model = dict(arch=undefined)', "a.py: NameError: name 'undefined'"),
    ],
)
def test_broken_config_raises(folder, text, message):
    (folder / 'a.py').write_text(text + '\n')
    with pytest.raises(ConfigError, match=message):
        load_config(folder / 'a.py')


@pytest.mark.skipif(find_spec('mmdet') is not None, reason='mmdetection is installed')
@pytest.mark.parametrize(
    'text',
    ["_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'", "default_scope = 'mmdet'"],
)
def test_missing_mmdetection_raises(folder, text):
    (folder / 'a.py').write_text(text + '\n')
    with pytest.raises(ConfigError, match=f'a.py: .*\nInstall it with: {INSTALL_MMDET}'):
        load_config(folder / 'a.py')


def test_options_and_work_directory(folder):
    cfg = load_config(folder / 'base.py', {'model.depth': 3})
    assert cfg.model == dict(arch='deit-base', depth=3)
    assert cfg.work_dir == 'work_dirs/base'
    assert load_config(folder / 'base.py', work_dir='here').work_dir == 'here'
    with pytest.raises(ConfigError, match='--cfg-options do not fit'):
        load_config(folder / 'base.py', {'model.arch.width': 3})


def test_unknown_options_raise(folder):
    """Unknown keys are never read; keys of the runner may be new."""
    assert load_config(folder / 'base.py', dict(resume=True)).resume
    match = r"--cfg-options: .*base.py has no 'modle'. Did you mean 'model'\?"
    with pytest.raises(ConfigError, match=match):
        load_config(folder / 'base.py', {'modle.a': 1})


def test_missing_dataloader_raises(folder):
    cfg = load_config(folder / 'base.py', dict(default_scope='mmpretrain'))
    with pytest.raises(ConfigError, match='^test_dataloader is missing: .* cannot test'):
        build_runner(cfg, 'test')
    cfg.lr_config = dict(policy='step')
    with pytest.raises(ConfigError, match='^lr_config is a key of mmcls 0.x'):
        build_runner(cfg, 'test')


def test_config_text_is_not_formatted_by_yapf(folder, monkeypatch):
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', None)  # fails if called
    cfg = load_config(folder / 'base.py')
    cfg.model.depth = 2
    for text in (cfg.pretty_text, copy.deepcopy(cfg).pretty_text):
        assert Config.fromstring(text, '.py').to_dict() == cfg.to_dict()
        assert '    depth=2' in text


def test_pure_python_config(folder):
    (folder / 'child.py').write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n    from .base import *\n'
        'model.update(dict(depth=3))\n'
    )
    cfg = load_config(folder / 'child.py')
    assert cfg.model == dict(arch='deit-base', depth=3)
    assert 'depth=3' in cfg.pretty_text and 'read_base' not in cfg.pretty_text


def test_shipped_configs_by_name():
    cfg = load_config('mmcim::cim/vit-b_8xb256-300e.py')
    assert cfg.model.type == 'CIM'
    assert cfg.work_dir == 'work_dirs/cim/vit-b_8xb256-300e'
    match = r"vit-b_8xb256.py does not exist. Did you mean 'mmcim::cim/vit-b_8xb256-"
    with pytest.raises(ConfigError, match=match):
        load_config('mmcim::cim/vit-b_8xb256.py')


@pytest.mark.parametrize(
    ('path', 'below'),
    [
        ('configs/cim/ablations/a.py', 'cim/ablations/a'),
        ('/x/configs/configs/b/a.py', 'b/a'),
        ('/x/y/v1.2.py', 'v1.2'),
    ],
)
def test_work_directory_follows_the_path_below_configs(folder, path, below):
    path = folder / path.lstrip('/')
    path.parent.mkdir(parents=True)
    path.write_text("model = dict(type='CIM')\n")
    assert load_config(path).work_dir == f'work_dirs/{below}'


def test_pretrained_needs_a_backbone(folder):
    with pytest.raises(ConfigError, match='--pretrained: .*has no model.backbone to set'):
        load_config(folder / 'base.py', pretrained='x.pth')


@pytest.mark.parametrize(
    ('init_cfg', 'files'),
    [
        (dict(type='Pretrained', checkpoint='a.pth'), ['a.pth']),
        (dict(type='Pretrained', checkpoint=None), []),
        ([dict(type='TruncNormal', layer='Linear')], []),
        (None, []),
    ],
)
def test_initial_weights(init_cfg, files):
    backbone = dict(type='ResNet', init_cfg=init_cfg)
    assert initial_weights(Config(dict(model=dict(backbone=backbone)))) == files
    assert initial_weights(Config(dict(model=dict(backbone='an object')))) == []
