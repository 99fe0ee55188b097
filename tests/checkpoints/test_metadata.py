# Copyright (c) mmcim contributors. All rights reserved.
from mmcim.checkpoints.metadata import backbone_config
from mmengine.config import Config

BACKBONE = dict(type='VisionTransformer', arch='deit-tiny', init_cfg=dict(type='X'))
PLAIN = dict(type='VisionTransformer', arch='deit-tiny')


def test_the_config_under_the_prefix_comes_first():
    model = dict(backbone=dict(type='ResNet'), enhancer=dict(backbone=BACKBONE))
    assert backbone_config(Config(dict(model=model)), 'enhancer.backbone.') == PLAIN


def test_a_copy_has_the_config_of_what_it_copies():
    """ConMIM's momentum encoder is made by the model, not by a config."""
    cfg = Config(dict(model=dict(type='ConMIM', backbone=BACKBONE)))
    assert backbone_config(cfg, 'momentum_encoder.backbone.') == PLAIN
    assert backbone_config(cfg, 'backbone.') == PLAIN
    scoped = Config(dict(default_scope='mmseg', model=dict(backbone=dict(type='ViT'))))
    assert backbone_config(scoped, 'copy.backbone.') == dict(type='mmseg.ViT')


def test_no_config():
    for model in (dict(type='CIM'), dict(backbone='an object'), None):
        assert backbone_config(Config(dict(model=model)), 'copy.backbone.') is None
