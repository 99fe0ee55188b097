# Copyright (c) mmcim contributors. All rights reserved.
"""Values that the sources of the recipes have."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from ..conftest import is_readable

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(
    path.relative_to(CONFIGS).with_suffix('').as_posix()
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts and is_readable(path)
)
PEAK, DECAY = 'optim_wrapper.optimizer.lr', 'optim_wrapper.paramwise_cfg.layer_decay_rate'
DROP_PATH, EPOCHS = 'model.backbone.drop_path_rate', 'train_cfg.max_epochs'
SCALED_FOR, NORM = 'auto_scale_lr.base_batch_size', 'model.backbone.final_norm'
WEIGHT_DECAY = 'optim_wrapper.optimizer.weight_decay'
# Of the schedule: epochs of warm-up, and the least learning rate.
WARM_UP, LEAST = 'warm-up', 'least'
DEIT = {
    'model.backbone.out_type': 'cls_token', NORM: True, PEAK: 1e-3, DECAY: 1.0,
    SCALED_FOR: 1024, 'train_dataloader.sampler.type': 'RepeatAugSampler',
    WARM_UP: 5, LEAST: 1e-5,
}  # fmt: skip
DINO = {
    SCALED_FOR: 1024, WARM_UP: 10, LEAST: 1e-6, WEIGHT_DECAY: 0.04, DROP_PATH: 0.1,
    'param_scheduler.2.param_name': 'weight_decay', 'param_scheduler.2.eta_min_ratio': 10,
    'optim_wrapper.clip_per_parameter': True, 'optim_wrapper.clip_grad.max_norm': 3.0,
    'model.momentum': 0.996, 'model.head.student_temperature': 0.1,
    'model.neck.out_channels': 65536, 'model.neck.bottleneck_channels': 256,
    'custom_hooks.0.type': 'DINOHook', 'data_preprocessor.num_per_crop': 5,
    'crop.crop_ratio_range': (0.25, 1.0),
}  # fmt: skip
RECIPES = {
    'baselines/vit-b_simmim_8xb256-300e': {
        PEAK: 4e-4, SCALED_FOR: 2048, DROP_PATH: 0.1
    },
    'benchmarks/vit-b_simmim_finetune_8xb128-100e_in1k': {
        PEAK: 2.5e-3, SCALED_FOR: 1024, DECAY: 0.65, WARM_UP: 20, LEAST: 1e-6
    },
    'baselines/vit-b_mae_8xb256-300e': {WARM_UP: 40, LEAST: 0},
    'baselines/vit-s_mae_1xb128-300e_imagenette-128': {WARM_UP: 40, LEAST: 0},
    'benchmarks/vit-b_mae_finetune_8xb128-100e_in1k': {
        PEAK: 2e-3, SCALED_FOR: 1024, DECAY: 0.65, WARM_UP: 5, EPOCHS: 100, LEAST: 1e-6
    },
    'segmentation/vit-b_mae_upernet_8xb2-160k_ade20k-512x512': {PEAK: 1e-4, DECAY: 0.65},
    'baselines/vit-b_mocov3_8xb256-300e': {WARM_UP: 40, LEAST: 0},
    'baselines/vit-s_mocov3_1xb128-300e_imagenette-128': {
        WARM_UP: 40, LEAST: 0, 'model.backbone.arch': 'mocov3-small'
    },
    'benchmarks/vit-b_mocov3_finetune_8xb128-150e_in1k': {**DEIT, EPOCHS: 150},
    'baselines/vit-b_dino_8xb128-400e': {
        **DINO, PEAK: 3e-3, EPOCHS: 400, 'model.neck.norm_last_layer': True,
        'custom_hooks.0.warm_up': 50, 'custom_hooks.0.freeze': 3,
    },
    'baselines/vit-s_dino_8xb128-800e': {
        **DINO, PEAK: 2e-3, EPOCHS: 800, 'model.neck.norm_last_layer': False,
        'custom_hooks.0.warm_up': 30, 'custom_hooks.0.freeze': 1,
    },
    'baselines/vit-s_scratch_8xb128-300e_in1k': {**DEIT, EPOCHS: 300},
    'baselines/vit-b_scratch_8xb512-300e_in1k': {
        PEAK: 1.6e-3, SCALED_FOR: 4096, WEIGHT_DECAY: 0.3, WARM_UP: 20, EPOCHS: 300,
        'optim_wrapper.optimizer.betas': (0.9, 0.95), DECAY: 1.0, DROP_PATH: 0.1,
        'custom_hooks.0.type': 'EMAHook', 'custom_hooks.0.momentum': 1e-4,
    },
    'baselines/vit-s_scratch_1xb128-300e_imagenette-128': {PEAK: 4e-3, DECAY: 1.0},
    'benchmarks/vit-s_finetune_1xb128-100e_imagenette-128': {PEAK: 4e-3},
    'benchmarks/vit-b_conmim_finetune_8xb64-10e_in1k-384px': {
        'model.train_cfg': None, DROP_PATH: 0.1
    },
    'benchmarks/vit-l_conmim_finetune_8xb32-accum2-5e_in1k-384px': {
        'model.train_cfg': None, DROP_PATH: 0.4
    },
    'benchmarks/vit-b_corrim_finetune_8xb256-100e_in1k': {
        'test_dataloader.dataset.pipeline.1.scale': 235,
        'optim_wrapper.paramwise_cfg.custom_keys.pos_embed.lr_mult': 0.0,
    },
    'corrim/vit-b_corrim_8xb256-accum2-300e': {
        'model.initial_weights': 'released', 'data_preprocessor.label_margin': 0.4,
        'data_preprocessor.exemplars.fit': 'released',
    },
    'segmentation/vit-l_conmim_upernet_8xb2-160k_ade20k-512x512': {
        PEAK: 7e-4, DECAY: 0.65
    },
    'segmentation/vit-s_upernet_8xb2-160k_ade20k-512x512': {
        'model.decode_head.channels': 512
    },
    'segmentation/vit-s_upernet_1xb8-amp-20k_camvid-480x360': {
        'model.decode_head.channels': 512
    },
    'segmentation/resnet50_fcn_8xb2-160k_ade20k-512x512': {
        'model.backbone.contract_dilation': True, PEAK: 1e-4, DECAY: 0.9,
        'optim_wrapper.paramwise_cfg.stage_wise': True,
    },
    'segmentation/resnet50_upernet_8xb2-160k_ade20k-512x512': {
        'optim_wrapper.paramwise_cfg.stage_wise': True
    },
}  # fmt: skip


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def value_of(cfg, key):
    """Of a dotted key; of the class where the config leaves its default."""
    if key in (WARM_UP, LEAST):
        warm_up, cosine = cfg.param_scheduler[:2]
        assert warm_up.end == cosine.begin
        assert 'end' not in cosine  # that of the training
        if key == WARM_UP:
            return warm_up.end
        ratio = cosine.get('eta_min_ratio')
        peak = cfg.optim_wrapper.optimizer.lr
        return cosine.eta_min if ratio is None else pytest.approx(ratio * peak)
    node, *path = cfg, *key.split('.')
    for part in path[:-1]:
        node = node[int(part)] if part.isdigit() else node[part]
    last = path[-1]
    if isinstance(node, dict) and last not in node and 'type' in node:
        return getattr(MODELS.build(dict(node)), last)
    return node[last]


@pytest.mark.parametrize('name', RECIPES)
def test_values_are_those_of_the_source(name):
    cfg = load(name)
    cfg.model.setdefault('initial_weights', 'released')  # its class's, tested with it
    found = {key: value_of(cfg, key) for key in RECIPES[name]}
    assert found == RECIPES[name]


def test_incomplete_batches_are_dropped_in_training_alone():
    for name in NAMES:
        cfg = load(name)
        if cfg.get('train_dataloader'):
            assert cfg.train_dataloader.drop_last is True, name
        for split in ('val', 'test'):
            loader = cfg.get(f'{split}_dataloader') or {}
            assert not loader.get('drop_last'), name


@pytest.mark.parametrize('name', [n for n in NAMES if n.startswith('segmentation')])
def test_segmentation_is_tested_at_the_size_of_training(name):
    """No padding before windows; whole patches of whole images; no smaller scale."""
    cfg = load(name)
    crop = cfg.crop_size
    padded = (cfg.model.data_preprocessor.get('test_cfg') or {}).get('size_divisor')
    assert padded == (None if 'ade20k' in name else 32)
    for size in cfg.tta_pipeline[1].transforms[0] if crop != 'auto' else ():
        assert max(size.scale) >= max(crop) and min(size.scale) >= min(crop)


@pytest.mark.parametrize('name', [n for n in NAMES if '_rsb-' in n])
def test_binary_cross_entropy_is_averaged_over_classes(name):
    head = load(name).model.head
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loss = MODELS.build(head.loss)
    labels = torch.nn.functional.one_hot(torch.arange(2), head.num_classes).float()
    found = loss(torch.zeros(2, head.num_classes), labels, avg_factor=2)
    assert found.item() == pytest.approx(0.6931, abs=1e-4)
