# Copyright (c) mmcim contributors. All rights reserved.
"""Every CorrIM config spells its keys right, builds and makes a step; its numbers."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ALL_MODELS
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from ..backbone_files import write_backbone
from ..conftest import init_weights
from .batches import effective_batch_size

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FOLDER = CONFIGS / 'corrim'
PRE_TRAINING = sorted(
    str(path.relative_to(CONFIGS))
    for path in [*FOLDER.glob('*.py'), *FOLDER.glob('ablations/*.py')]
) + ['quickstart/corrim.py']
ABLATIONS = sorted(path.stem for path in FOLDER.glob('ablations/*.py'))
BENCHMARKS = sorted(path.stem for path in CONFIGS.glob('benchmarks/*_corrim_*.py'))
VIT_B = 'corrim/vit-b_corrim_8xb256-accum2-300e.py'
WIDTH = 32


def load(name):
    return Config.fromfile(CONFIGS / name)


def narrow(backbone):
    """Shrink a backbone in place, but not its kind of layers; give its width."""
    if backbone.type.endswith('ResNet'):
        backbone.update(stem_channels=8, base_channels=8)
        return 256
    backbone.arch = dict(
        embed_dims=WIDTH, num_layers=12, num_heads=2, feedforward_channels=WIDTH
    )
    return WIDTH


def shrink(model):
    channels = narrow(model.backbone)
    model.neck.update(in_channels=channels, embed_dims=WIDTH, num_heads=2)
    model.head.in_channels = WIDTH


def image_size(cfg):
    for step in cfg.train_pipeline:
        if 'RandomResizedCrop' in step.type:
            return step.scale
    return cfg.train_dataloader.dataset.size


@pytest.mark.parametrize('name', PRE_TRAINING)
def test_config_makes_a_step(name):
    cfg = load(name)
    shrink(cfg.model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
        init_weights(model)
        model.train()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    side = image_size(cfg)
    inputs = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    # A residual branch that ends in a norm of weight zero moves from the second step on.
    count = cfg.optim_wrapper.get('accumulative_counts', 1)
    for _ in range((2 if 'resnet' in name else 1) * count):
        log = model.train_step(dict(inputs=inputs), optim)
        assert torch.isfinite(log['loss'])
    still = {k for k, v in model.named_parameters() if v.equal(before[k])}
    frozen = {k for k, v in model.named_parameters() if not v.requires_grad}
    assert still == frozen
    online = {k for k in frozen if not k.startswith('momentum_encoder.')}
    vit = {'pos_embed', 'patch_embed.projection.weight', 'patch_embed.projection.bias'}
    vit = {f'backbone.{key}' for key in vit}
    assert online == (set() if 'resnet' in name else vit)

    assert model.momentum_encoder.update(model, 0, 10) == pytest.approx(0.99)
    assert cfg.get('sync_bn') == ('torch' if 'resnet' in name else None)


def test_settings_match_the_paper():
    """The released command for ViT-B."""
    cfg = load(VIT_B)
    optim = cfg.optim_wrapper
    assert effective_batch_size(cfg, world_size=8) == 4096
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=4096)
    assert optim.optimizer == dict(
        type='AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05
    )
    assert optim.optimizer.lr == pytest.approx(1.5e-4 * 4096 / 256)
    assert optim.clip_grad is None
    assert cfg.train_cfg.max_epochs == 300
    warm_up, cosine = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 40)
    assert (cosine.begin, cosine.eta_min) == (40, 0)
    assert 'end' not in cosine  # that of training
    crop = cfg.train_dataloader.dataset.pipeline[1]
    assert (crop.type, crop.scale) == ('AntialiasedRandomResizedCrop', 224)
    assert crop.crop_ratio_range == (0.5, 1.0) and crop.interpolation == 'bicubic'

    preprocessor = cfg.data_preprocessor
    assert (preprocessor.context_size, preprocessor.flip_prob) == (160, 0.5)
    assert preprocessor.exemplar_flip_prob == 0.5
    assert dict(preprocessor.exemplars) == dict(
        type='ExemplarSampling', num=6, size=64, scale=(0.05, 0.48),
        aspect_ratio=(1 / 3, 3.0), degrees=(-45, 44),
    )  # fmt: skip
    assert dict(preprocessor.augment) == dict(
        type='StrongAugment', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1,
        jitter_prob=0.8, grey_prob=0.2, blur_prob=0.5, blur_sigma=(0.1, 2.0),
        solarize_prob=0.2,
    )  # fmt: skip

    with torch.device('meta'):
        model = MODELS.build({'data_preprocessor': preprocessor, **cfg.model})
    net, neck = model.backbone, model.neck
    assert (net.embed_dims, len(net.layers), net.layers[0].attn.num_heads) == (
        768,
        12,
        12,
    )
    assert net.ln1.eps == 1e-6 and net.patch_resolution == (14, 14)
    assert (neck.proj.in_features, neck.proj.out_features) == (768, 512)
    assert neck.attn.num_heads == 16 and neck.mlp[0].out_features == 2048
    assert neck.grid == (10, 10) and model.head.conv.in_channels == 512
    assert model.momentum_encoder.momentum == 0.99
    assert model.momentum_encoder.end_momentum == 1.0


def flat(node, prefix=''):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from flat(value, f'{prefix}.{key}')
    else:
        yield prefix[1:], node


EXEMPLARS = 'data_preprocessor.exemplars.'
CHANGES = {
    'vit-b_corrim_exemplars-1': {EXEMPLARS + 'num': 1},
    'vit-b_corrim_exemplars-3': {EXEMPLARS + 'num': 3},
    'vit-b_corrim_exemplars-8': {EXEMPLARS + 'num': 8},
    'vit-b_corrim_scale-small': {EXEMPLARS + 'scale': (0.05, 0.25)},
    'vit-b_corrim_scale-large': {EXEMPLARS + 'scale': (0.2, 1.0)},
    'vit-b_corrim_shape-square': {EXEMPLARS + 'aspect_ratio': (1.0, 1.0)},
    'vit-b_corrim_rotation-none': {EXEMPLARS + 'degrees': (0, 0)},
    'vit-b_corrim_rotation-any': {
        EXEMPLARS + 'degrees': (-180, 179), EXEMPLARS + 'fit': 'centred'
    },
    'vit-b_corrim_size-32': {EXEMPLARS + 'size': 32},
    'vit-b_corrim_size-96': {EXEMPLARS + 'size': 96},
    'vit-b_corrim_loss-focal-mse': {'model.head.objective': 'focal_mse'},
    'vit-b_corrim_transform-none': {
        'data_preprocessor.augment': None, 'data_preprocessor.exemplar_flip_prob': 0.0
    },
}  # fmt: skip


def test_ablation_changes_one_thing():
    assert sorted(CHANGES) == ABLATIONS
    base = dict(flat(load(VIT_B).to_dict()))
    for name, changes in CHANGES.items():
        found = dict(flat(load(f'corrim/ablations/{name}.py').to_dict()))
        assert {k: v for k, v in found.items() if base.get(k, ...) != v} == changes
        gone = {k for k in base if k not in found}
        assert all(k.startswith('data_preprocessor.augment.') for k in gone)
        text = (FOLDER / f'ablations/{name}.py').read_text()
        assert len(text.splitlines()) <= 15


def test_only_finetuning_has_its_own_configs():
    assert BENCHMARKS == [
        'vit-b_corrim_finetune_8xb256-100e_in1k',
        'vit-s_corrim_finetune_8xb256-200e_in1k',
    ]


@pytest.mark.parametrize('name', BENCHMARKS)
def test_backbone_weights_load(name, tmp_path):
    cfg = load(f'benchmarks/{name}.py')
    target = cfg.model.backbone
    *_, folder, file = target.init_cfg.checkpoint.split('/')
    source = load(f'corrim/{folder}.py')
    assert file == f'epoch_{source.train_cfg.max_epochs}_backbone.safetensors'
    assert source.model.backbone.get('arch') == target.get('arch')
    assert source.model.backbone.get('patch_size') == target.get('patch_size')
    depth, width = target.get('arch'), narrow(target)
    assert narrow(source.model.backbone) == width
    if depth:
        assert depth in ('deit-small', 'deit-base')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        backbone = MODELS.build(source.model.backbone)
        backbone.init_weights()
    tensors = {
        key: value + 0.01 if value.is_floating_point() else value
        for key, value in backbone.state_dict().items()
    }
    target.init_cfg.checkpoint = str(tmp_path / file)
    write_backbone(tmp_path / file, tensors)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        net = ALL_MODELS.build(target)
        net.init_weights()
    own, taken = net.state_dict(), 0
    for key, value in tensors.items():
        if key in own and own[key].shape == value.shape:
            assert own[key].equal(value), key
            taken += 1
    # All but the final norm, and the positions where the grid is another one.
    assert taken >= len(tensors) - 3


def test_finetuning_settings_match_the_paper():
    for arch, epochs in (('vit-b', 100), ('vit-s', 200)):
        cfg = load(f'benchmarks/{arch}_corrim_finetune_8xb256-{epochs}e_in1k.py')
        optim = cfg.optim_wrapper
        assert effective_batch_size(cfg, world_size=8) == 2048
        assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=2048)
        assert optim.optimizer.lr == pytest.approx(1.2e-3 * 2048 / 256)
        assert optim.paramwise_cfg.layer_decay_rate == 0.8
        assert cfg.train_cfg.max_epochs == epochs
        warm_up, cosine = cfg.param_scheduler
        assert (warm_up.end, cosine.begin) == (5, 5)
        assert 'end' not in cosine  # that of training
        assert warm_up.start_factor * optim.optimizer.lr == pytest.approx(1e-6)
        assert cosine.eta_min_ratio * optim.optimizer.lr == pytest.approx(1e-6)
        assert cfg.model.backbone.drop_path_rate == 0.1
        assert cfg.model.backbone.out_type == 'avg_featmap'
        for loader in (cfg.val_dataloader, cfg.test_dataloader):
            resize, crop = loader.dataset.pipeline[1:3]
            assert resize.scale == int(crop.crop_size / 0.95) == 235
