# Copyright (c) mmcim contributors. All rights reserved.
"""Backbones of mmpretrain that mmcim does not pre-train load, or raise."""

import re

import pytest
import torch

from mmcim.checkpoints import load_into
from mmcim.checkpoints.layout import is_derived
from mmcim.utils import ConfigError

from .conftest import arrived, build

STAGES = dict(depths=[1, 1, 1, 1])
WINDOWS = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4])
TABLES = 'tables of windows'
LAYERS = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
HIERARCHIES = {
    'ConvNeXt': (dict(type='ConvNeXt', arch=dict(STAGES, channels=[4, 8, 8, 8])), 4),
    'Swin': (dict(type='SwinTransformer', arch=WINDOWS, img_size=64, window_size=2), 4),
    'MViT': (
        dict(
            type='MViT',
            arch=dict(
                embed_dims=8, num_layers=4, num_heads=1, downscale_indices=[1, 2, 3]
            ),
            img_size=64,
        ),
        4,
    ),
    'EfficientFormer': (
        dict(
            type='EfficientFormer',
            arch=dict(
                layers=[1, 1, 1, 1],
                embed_dims=[8, 8, 16, 16],
                downsamples=[False, True, True, True],
                vit_num=0,
            ),
        ),
        4,
    ),
    'PoolFormer': (
        dict(
            type='PoolFormer',
            arch=dict(
                layers=[1, 1, 1, 1],
                embed_dims=[8, 8, 8, 8],
                mlp_ratios=[2, 2, 2, 2],
                layer_scale_init_value=1e-5,
            ),
        ),
        7,
    ),
}


def outputs(name, *indices):
    config, _ = HIERARCHIES[name]
    key = 'out_scales' if name == 'MViT' else 'out_indices'
    return build({**config, key: list(indices)})


def saved(source, path):
    torch.save(source.state_dict(), path)
    return path


@pytest.mark.parametrize('name', HIERARCHIES)
def test_multiple_outputs_of_classifier(tmp_path, name):
    """The norm of the last stage is loaded, those of earlier stages are new."""
    last = HIERARCHIES[name][1] - 1
    stages = [last - 2 * i for i in (3, 2, 1)] if last == 6 else [0, 1, 2]
    source = outputs(name, last)
    path = saved(source, tmp_path / 'x.pth')
    model = outputs(name, *stages, last)
    report = load_into(model, path)
    assert 'new in this network: norm' in str(report)
    assert {n.split('.')[0] for n in report.new} == {f'norm{i}' for i in stages}
    assert arrived(model, source.state_dict()) == set(source.state_dict())
    # A missing norm of the last stage is an error.
    state = {k: v for k, v in source.state_dict().items() if f'norm{last}.' not in k}
    torch.save(state, path)
    with pytest.raises(
        ConfigError, match=rf'norm{last}\.weight, norm{last}\.bias missing'
    ):
        load_into(model, path)


def sized(kind, img_size):
    config = dict(type=kind, img_size=img_size)
    if kind == 'ViTSAM':
        config |= dict(arch=dict(LAYERS, global_attn_indexes=[1]), window_size=2)
        config |= dict(patch_size=8, out_channels=8, use_rel_pos=True)
    elif kind in ('ViTEVA02', 'DeiT3', 'RevVisionTransformer'):
        config |= dict(arch=LAYERS, patch_size=8)
    elif kind == 'MixMIMTransformer':
        arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
        config |= dict(arch=arch, window_size=[2, 2, 2, 1])
    elif kind == 'HiViT':
        arch = dict(embed_dims=32, depths=[1, 1, 2], num_heads=2)
        config |= dict(arch=arch, ape=True, rpe=True)
    elif kind == 'SwinTransformerV2':
        arch = dict(WINDOWS, extra_norm_every_n_blocks=0)
        config |= dict(arch=arch, window_size=[img_size // 32] * 4)
    elif kind == 'SwinTransformer':
        config |= dict(arch=WINDOWS, window_size=img_size // 32, use_abs_pos_embed=True)
    elif kind == 'MViT':
        config |= dict(HIERARCHIES['MViT'][0], img_size=img_size, use_abs_pos_embed=True)
    elif kind == 'T2T_ViT':
        config |= dict(embed_dims=24, num_layers=2)
    return build(config)


@pytest.mark.parametrize(
    ('kind', 'sizes', 'resized'),
    [
        ('ViTEVA02', (32, 64), {'pos_embed': (17, 65)}),
        ('DeiT3', (32, 64), {'pos_embed': (16, 64)}),
        ('RevVisionTransformer', (32, 64), {'pos_embed': (16, 64)}),
        ('T2T_ViT', (64, 128), {'pos_embed': (17, 65)}),
        ('MixMIMTransformer', (64, 128), {'absolute_pos_embed': (256, 1024)}),
        ('SwinTransformer', (64, 128),
         {'absolute_pos_embed': (256, 1024), TABLES: (9, 49)}),
        ('SwinTransformerV2', (64, 128), {}),
    ],
)  # fmt: skip
def test_other_image_size(tmp_path, kind, sizes, resized):
    source, model = (sized(kind, size) for size in sizes)
    path = saved(source, tmp_path / 'x.pth')
    report = load_into(model, path)
    found = {re.sub(r'.+\..+', TABLES, name): n for name, n in report.resized.items()}
    assert found == resized
    assert report.missing == report.unused == report.new == []
    same = {name for name in model.state_dict() if not is_derived(name)}
    assert arrived(model, source.state_dict()) >= same - set(report.resized)
    size = sizes[1]
    assert all(value.isfinite().all() for value in model(torch.randn(2, 3, size, size)))


@pytest.mark.parametrize(
    ('kind', 'sizes', 'name'),
    [
        ('HiViT', (64, 128), 'pos_embed of shape'),
        ('ViTSAM', (32, 64), 'pos_embed of shape'),
        ('MViT', (64, 128), 'blocks.0.attn.rel_pos_h'),
    ],
)
def test_other_size_raises(tmp_path, kind, sizes, name):
    """Their position embeddings cannot be resized."""
    source, model = (sized(kind, size) for size in sizes)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ConfigError, match=f'{name}.* instead of '):
        load_into(model, saved(source, tmp_path / 'x.pth'))
    assert arrived(model, before) == set(before)
    load_into(sized(kind, sizes[0]), tmp_path / 'x.pth')
