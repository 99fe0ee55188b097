# Copyright (c) mmcim contributors. All rights reserved.
"""Configs of a folder of images: a step of each, for presets of all sizes."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from safetensors.torch import save_file

from mmcim.models.tokenizers import DiscreteVAENet
from mmcim.paths import configs_dir

NAMES = sorted(path.stem for path in (configs_dir() / 'images').glob('*.py'))
PATCHES = {64: 8, 224: 16}
PRESET = """
_base_ = {base!r}
size = dict(img_size={size}, patch_size={patch})
arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32)
tokenizer = dict(type='DiscreteVAE', checkpoint={tokenizer!r})
vocab_size = 16
tokenizer_size = {size} // 2
max_iters = 20
"""


@pytest.fixture(params=PATCHES)
def load(request, tmp_path, monkeypatch):
    """Load a config with a preset of this size."""
    size, patch = request.param, PATCHES[request.param]
    net = DiscreteVAENet(stride=patch // 2, vocab_size=16, width=16, code_dims=8)
    tokenizer = str(tmp_path / 'dvae.safetensors')
    save_file(net.state_dict(), tokenizer)
    base = str(configs_dir() / '_base_/presets/64px.py')
    preset = tmp_path / 'preset.py'
    preset.write_text(
        PRESET.format(base=base, size=size, patch=patch, tokenizer=tokenizer)
    )
    monkeypatch.setenv('MMCIM_PRESET', str(preset))
    return lambda name: Config.fromfile(configs_dir() / f'images/{name}.py')


@pytest.mark.parametrize('name', [name for name in NAMES if name != 'probe'])
def test_every_config_makes_a_step(name, load):
    cfg = load(name)
    side = cfg.size.img_size
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        if cfg.model.get('backbone'):
            cfg.model.backbone.pop('init_cfg', None)
        model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
        model.init_weights()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
    images = torch.randint(256, (4, 3, side, side), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i % 2) for i in range(4)]
    inputs = [images, images.flip(-1)] if 'mocov3' in name else images
    before = {key: value.clone() for key, value in model.named_parameters()}
    # A residual branch that ends in a norm of weight zero moves from the second step on.
    for _ in range(2):
        log = model.train_step(dict(inputs=inputs, data_samples=samples), optim)
        assert torch.isfinite(log['loss'])
    still = [key for key, value in model.named_parameters() if value.equal(before[key])]
    # Positions of sines and cosines, and MoCo v3's frozen projection of the patches.
    given = ('pos_embed', 'patch_embed.projection.weight', 'patch_embed.projection.bias')
    moving = [k for k in still if not k.endswith(given) and 'momentum' not in k]
    assert not moving


def test_targets_follow_the_preset(load):
    cfg = load('vit_cim_respix')
    side, patch = cfg.size.img_size, cfg.size.patch_size
    assert cfg.data_preprocessor.tokenizer_size == side // 2
    assert cfg.model.enhancer.neck.encoder_stride == patch
    assert cfg.model.enhancer.head.target_norm.window == 32
    assert cfg.train_pipeline[1].scale == side
    assert cfg.param_scheduler[0].end == 2  # a tenth of 20
    assert load('vit_mae').model.neck.num_patches == (side // patch) ** 2
    # 5/7 and 2/7 of the patches, as 10 and 4 of 14.
    grid = {8: (5, 2), 14: (10, 4)}[side // patch]
    corrim = load('vit_corrim')
    assert corrim.model.neck.grid == (grid[0], grid[0])
    assert corrim.data_preprocessor.exemplars.size == grid[1] * patch
