# Copyright (c) mmcim contributors. All rights reserved.
"""Networks of mmpretrain that mmcim does not train itself load as they always did."""

import pytest
import torch
from mmengine.model import PretrainedInit

from mmcim.checkpoints import load_into
from mmcim.utils import ConfigError

from .conftest import arrived, build

STAGES = dict(depths=[1, 1, 1, 1])
WINDOWS = dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4])
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
def test_further_outputs_of_a_classifier(tmp_path, name):
    """The norm of the last stage is there, those of the stages before it are new."""
    last = HIERARCHIES[name][1] - 1
    stages = [last - 2 * i for i in (3, 2, 1)] if last == 6 else [0, 1, 2]
    source = outputs(name, last)
    path = saved(source, tmp_path / 'x.pth')
    model = outputs(name, *stages, last)
    report = load_into(model, path)
    assert 'new, because of out_indices: norm' in str(report)
    assert {n.split('.')[0] for n in report.new} == {f'norm{i}' for i in stages}
    assert arrived(model, source.state_dict()) == set(source.state_dict())
    # Without the last stage's norm something is wrong.
    state = {k: v for k, v in source.state_dict().items() if f'norm{last}.' not in k}
    torch.save(state, path)
    with pytest.raises(ConfigError, match=rf'missing: norm{last}\.'):
        load_into(model, path)


def sized(kind, img_size):
    if kind == 'ViTSAM':
        config = dict(
            type='ViTSAM',
            arch=dict(LAYERS, global_attn_indexes=[1]),
            patch_size=8,
            window_size=2,
            out_channels=8,
            use_rel_pos=True,
        )
    elif kind == 'ViTEVA02':
        config = dict(type='ViTEVA02', arch=LAYERS, patch_size=8)
    else:
        arch = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
        config = dict(type='MixMIMTransformer', arch=arch, window_size=[2, 2, 2, 1])
    return build(dict(config, img_size=img_size))


@pytest.mark.parametrize(
    ('kind', 'sizes', 'names'),
    [
        ('ViTSAM', (32, 64), ['pos_embed', 'layers.1.attn.rel_pos_h', 'rel_pos_w']),
        ('ViTEVA02', (32, 64), ['pos_embed']),
        ('MixMIM', (64, 128), ['absolute_pos_embed']),
    ],
)
def test_another_size(tmp_path, kind, sizes, names):
    source, model = (sized(kind, size) for size in sizes)
    path = saved(source, tmp_path / 'x.pth')
    report = load_into(model, path)
    assert [name.endswith(end) for name, end in zip(report.resized, names)] == (
        [True] * len(names)
    )
    assert report.missing == [] and report.unused == []
    same = {k for k, v in model.state_dict().items() if 'freqs' not in k}
    assert arrived(model, source.state_dict()) >= same - set(report.resized)
    for name, (_, count) in report.resized.items():
        value = model.state_dict()[name]
        assert value[..., 0].numel() == count
    # What the module's own hooks do is what mmengine would have loaded.
    if kind == 'ViTSAM':
        theirs = sized(kind, sizes[1])
        PretrainedInit(str(path))(theirs)
        assert arrived(model, theirs.state_dict()) == set(theirs.state_dict())


def test_old_name_of_swins_norm(tmp_path):
    source, model = outputs('Swin', 3), outputs('Swin', 0, 1, 2, 3)
    state = {k.replace('norm3.', 'norm.'): v for k, v in source.state_dict().items()
             if not k.startswith('stages') or 'index' not in k}  # fmt: skip
    torch.save(state, tmp_path / 'x.pth')
    report = load_into(model, tmp_path / 'x.pth')
    assert arrived(model, source.state_dict()) == set(source.state_dict())
    assert report.unused == [] and 'norm3.weight' in report.matched


def test_hooks_leave_the_module_alone_if_it_does_not_fit(tmp_path):
    path = saved(sized('ViTSAM', 32), tmp_path / 'x.pth')
    state = torch.load(path)
    del state['layers.0.ln1.weight']
    torch.save(state, path)
    model = sized('ViTSAM', 64)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ConfigError, match=r'missing: layers\.0\.ln1\.weight\n'):
        load_into(model, path)
    assert arrived(model, before) == set(before)
