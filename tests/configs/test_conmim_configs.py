# Copyright (c) mmcim contributors. All rights reserved.
"""Every ConMIM config spells its keys right, builds and makes a step; its numbers."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from ..backbone_files import write_backbone
from ..conftest import init_weights

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FOLDER = CONFIGS / 'conmim'
NAMES = sorted(
    str(path.relative_to(CONFIGS))
    for path in [*FOLDER.glob('*.py'), *FOLDER.glob('ablations/*.py')]
) + ['quickstart/conmim.py']
BENCHMARKS = sorted(path.stem for path in CONFIGS.glob('benchmarks/*_conmim_*.py'))
LARGER = [name for name in BENCHMARKS if name.endswith('384px')]
WIDTH = 32


def load(name):
    return Config.fromfile(CONFIGS / name)


def narrow(backbone):
    """Shrink a backbone in place, but not its grid or kind of layers."""
    backbone.arch = dict(
        embed_dims=WIDTH, num_layers=2, num_heads=2, feedforward_channels=WIDTH
    )


def build(cfg):
    """The model as the runner builds it, and its optimizer."""
    torch.manual_seed(0)
    model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
    init_weights(model)
    return model.train(), build_optim_wrapper(model, cfg.optim_wrapper)


def test_configs_exist():
    for name in RECIPES:
        assert f'conmim/{name}.py' in NAMES
    kinds = ('temperature', 'mask', 'views', 'momentum', 'epochs')
    stems = {path.stem for path in FOLDER.glob('ablations/*.py')}
    for kind in kinds:
        assert any(stem.startswith(f'vit-b_conmim_{kind}') for stem in stems)
    assert [name[:5] for name in LARGER] == ['vit-b', 'vit-l', 'vit-s']
    assert {*BENCHMARKS} - {*LARGER} == {'vit-l_conmim_finetune_8xb128-50e_in1k'}


@pytest.mark.parametrize('name', NAMES)
def test_config_makes_a_step(name):
    cfg = load(name)
    narrow(cfg.model.backbone)
    cfg.model.neck.update(in_channels=WIDTH, hid_channels=WIDTH, out_channels=16)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model, optim = build(cfg)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    side = cfg.model.backbone.img_size
    inputs = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    log = model.train_step(dict(inputs=inputs, data_samples=None), optim)
    assert torch.isfinite(log['loss'])
    assert 0 <= log['accuracy'] <= 1
    model.momentum_encoder.update(model, 0, 10)
    # Everything learns, and the copy follows unless it is momentum 1.
    parts = ('momentum_encoder.', 'backbone.', 'neck.')
    for key, value in model.named_parameters():
        assert key.startswith(parts)
        if not key.endswith('mask_token'):
            assert not value.equal(before[key]) or 'gamma' in key, key


@pytest.mark.parametrize('arch, width, depth, heads, scale', [
    ('vit-s_conmim_8xb256', 384, 12, 6, 0.1),
    ('vit-b_conmim_8xb256', 768, 12, 12, 0.1),
    ('vit-l_conmim_32xb64', 1024, 24, 16, 1e-5),
])  # fmt: skip
def test_the_networks_of_the_paper(arch, width, depth, heads, scale):
    model = load(f'conmim/{arch}-{1600 if "vit-l" in arch else 300}e.py').model
    with torch.device('meta'):
        net = MODELS.build(model.backbone)
        neck = MODELS.build(model.neck)
    assert (net.embed_dims, len(net.layers)) == (width, depth)
    layer = net.layers[-1]
    assert layer.attn.num_heads == heads
    assert layer.ffn.feedforward_channels == 4 * width
    assert layer.attn.bias == 'qv_bias' and not layer.attn.use_rel_pos_bias
    assert net.rel_pos_bias is not None and net.pos_embed is None
    assert model.backbone.layer_scale_init_value == scale
    assert net.ln1.eps == layer.ln1.eps == 1e-6
    shapes = [tuple(p.shape) for k, p in neck.named_parameters() if 'fc' in k]
    assert shapes == [(4096, width), (4096, 4096), (256, 4096)]
    assert not any('bias' in k for k, _ in neck.named_parameters() if 'fc' in k)
    assert neck.bn0.affine and neck.bn1.affine and not neck.bn2.affine


@pytest.mark.parametrize('name', ['conmim/vit-s_conmim_8xb256-300e', 'quickstart/conmim'])
def test_projector_starts_with_truncated_weights(name):
    torch.manual_seed(0)
    neck = MODELS.build(load(f'{name}.py').model.neck)
    neck.init_weights()
    for fc in (neck.fc0, neck.fc1, neck.fc2):
        # A normal distribution of std 0.02, truncated at one sigma.
        assert fc.weight.std().item() == pytest.approx(0.0108, rel=0.02)
        assert 0.0199 < fc.weight.abs().max() <= 0.02


RECIPES = {
    # learning rate, epochs, warm-up, clipping, images per step
    'vit-s_conmim_8xb256-300e': (5e-4, 300, 5, None, 8 * 256),
    'vit-b_conmim_8xb256-300e': (5e-4, 300, 5, None, 8 * 256),
    'ablations/vit-b_conmim_epochs-800': (5e-4, 800, 5, None, 8 * 256),
    'ablations/vit-l_conmim_epochs-800': (7.5e-4, 800, 10, dict(max_norm=1.0), 32 * 64),
    'vit-l_conmim_32xb64-1600e': (7.5e-4, 1600, 10, dict(max_norm=1.0), 32 * 64),
    'vit-s_conmim_1xb128-300e_imagenette-128': (5e-4, 300, 5, None, 128),
}


@pytest.mark.parametrize('name', RECIPES)
def test_recipe(name):
    cfg = load(f'conmim/{name}.py')
    lr, epochs, warm_up, clipping, batch = RECIPES[name]
    optim = cfg.optim_wrapper
    assert optim.optimizer == dict(
        type='AdamW', lr=lr, betas=(0.9, 0.98), weight_decay=0.05
    )
    assert optim.clip_grad == clipping
    assert cfg.train_cfg.max_epochs == epochs
    first, second = cfg.param_scheduler
    assert (first.begin, first.end) == (0, warm_up)
    assert (second.begin, second.eta_min) == (warm_up, 1e-5)
    assert 'end' not in second  # that of training
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=batch)
    gpus = batch // cfg.train_dataloader.batch_size
    size = f'{gpus}xb{cfg.train_dataloader.batch_size}-{epochs}e'
    assert name.endswith((f'_{size}', f'_{size}_imagenette-128', f'_epochs-{epochs}'))
    assert cfg.sync_bn == 'torch'


def test_views_of_the_paper():
    cfg = load('conmim/vit-b_conmim_8xb256-300e.py')
    crop = next(s for s in cfg.train_pipeline if 'RandomResizedCrop' in s.type)
    assert (crop.scale, crop.crop_ratio_range) == (224, (0.08, 1.0))
    assert crop.interpolation == 'bicubic' and crop.aspect_ratio_range == (3 / 4, 4 / 3)
    assert cfg.data_preprocessor.flip_prob == 0.5
    assert cfg.data_preprocessor.get('online_augment') is None
    assert cfg.data_preprocessor.momentum_augment == dict(
        type='StrongAugment',
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        jitter_prob=0.8,
        grey_prob=0.2,
        blur_prob=0.1,
        blur_sigma=(0.1, 2.0),
        solarize_prob=0.2,
    )
    assert (cfg.model.momentum, cfg.model.end_momentum) == (0.996, 1.0)


ABLATIONS = [name for name in NAMES if '/ablations/' in name]


@pytest.mark.parametrize('name', ABLATIONS)
def test_ablation_is_short_and_changes_one_thing(name):
    assert 5 <= len((CONFIGS / name).read_text().splitlines()) <= 15
    main = 'vit-l_conmim_32xb64-1600e' if 'vit-l' in name else 'vit-b_conmim_8xb256-300e'
    base = load(f'conmim/{main}.py').to_dict()
    ablation = load(name).to_dict()
    changed = [key for key in base if ablation[key] != base[key]]
    keys = {'views': 'data_preprocessor', 'epochs': 'train_cfg'}
    assert changed == [keys.get(name.split('_')[2].split('-')[0], 'model')]


@pytest.mark.parametrize('name', [
    'benchmarks/vit-l_conmim_finetune_8xb128-50e_in1k',
    'segmentation/vit-l_conmim_upernet_8xb2-160k_ade20k-512x512',
])  # fmt: skip
def test_benchmark_loads_momentum_encoder(name, tmp_path):
    """A file as the pre-training writes it fills the backbone, but what is new there."""
    cfg = load(f'{name}.py')
    backbone = cfg.model.backbone
    folder, file = backbone.init_cfg.checkpoint.split('/')[2:]
    pretraining = load(f'conmim/{folder}.py')
    assert file == f'epoch_{pretraining.train_cfg.max_epochs}_backbone.safetensors'

    source = pretraining.model.backbone
    assert source.patch_size == backbone.patch_size
    for part in (source, backbone):
        narrow(part)
    segments = 'upernet' in name
    if segments:
        backbone.out_indices = [0, 1, 1, 1]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        written = MODELS.build(source)
        written.init_weights()
        torch.nn.init.normal_(written.rel_pos_bias.relative_position_bias_table)
        path = tmp_path / 'backbone.safetensors'
        write_backbone(path, written.state_dict())
        backbone.init_cfg.checkpoint = str(path)
        network = MODELS.build(backbone)
        network.init_weights()
    wanted = written.state_dict()
    for key, value in network.state_dict().items():
        if key in wanted and 'relative' not in key:
            assert value.equal(wanted[key]), key
    assert set(dict(network.named_parameters())) - set(wanted) == {
        f'layers.{i}.attn.relative_position_bias_table' for i in range(2)
    } | (set() if segments else {'ln2.weight', 'ln2.bias'})
    if not segments:
        shared = wanted['rel_pos_bias.relative_position_bias_table']
        for layer in network.layers:
            assert layer.attn.relative_position_bias_table.equal(shared)
    side = network.img_size[0]
    network.eval()
    out = network(torch.zeros(1, 3, side, side))
    assert all(torch.isfinite(x).all() for x in out)


@pytest.mark.parametrize('name', [n for n in BENCHMARKS if 'finetune' in n])
def test_fine_tuning_makes_a_step(name):
    cfg = load(f'benchmarks/{name}.py')
    backbone = cfg.model.backbone
    width = {'deit-small': 384, 'deit-base': 768, 'large': 1024}[backbone.arch]
    assert cfg.model.head.in_channels == width
    narrow(backbone)
    backbone.update(init_cfg=None, drop_path_rate=0.0)
    cfg.model.init_cfg = None
    cfg.model.head.in_channels = WIDTH
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model, optim = build(cfg)
    before = {key: value.clone() for key, value in model.named_parameters()}
    side = backbone.img_size
    inputs = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    for _ in range(cfg.optim_wrapper.get('accumulative_counts', 1)):
        log = model.train_step(dict(inputs=inputs, data_samples=samples), optim)
    assert torch.isfinite(log['loss'])
    for key, value in model.named_parameters():
        assert not value.equal(before[key]), key


@pytest.mark.parametrize('name', LARGER)
def test_larger_images_start_from_the_finetuned_classifier(name, tmp_path):
    """A tenth of the epochs more; the head is kept, the tables of positions grow."""
    cfg = load(f'benchmarks/{name}.py')
    folder, file = cfg.model.init_cfg.checkpoint.split('/')[2:]
    before = load(f'benchmarks/{folder}.py')
    before.model.backbone.type = 'FusedBEiTViT'  # as --pretrained sets it
    assert file == f'epoch_{before.train_cfg.max_epochs}.pth'
    assert cfg.train_cfg.max_epochs == before.train_cfg.max_epochs // 10
    assert 'end' not in cfg.param_scheduler[-1]  # that of the training
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin
    per_step = cfg.train_dataloader.batch_size * 8
    per_step *= cfg.optim_wrapper.get('accumulative_counts', 1)
    assert per_step == cfg.auto_scale_lr.base_batch_size == 512
    wider = ('img_size', 'init_cfg', 'drop_path_rate')
    old, new = (
        {k: v for k, v in c.model.backbone.items() if k not in wider}
        for c in (before, cfg)
    )
    assert old == new and cfg.model.head == before.model.head
    crops = [step for step in cfg.train_pipeline if 'RandomResizedCrop' in step.type]
    edge, centre = cfg.test_pipeline[1:3]
    assert (crops[0].scale, edge.scale, centre.crop_size) == (384, 384, 384)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline == cfg.test_pipeline

    for model in (before.model, cfg.model):
        narrow(model.backbone)
        model.backbone.init_cfg = None
        model.head.in_channels = WIDTH
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        small, _ = build(before)
        path = tmp_path / file
        torch.save(dict(state_dict=small.state_dict()), path)
        cfg.model.init_cfg.checkpoint = str(path)
        large, _ = build(cfg)
    found = large.state_dict()
    for key, value in small.state_dict().items():
        if 'relative' not in key:
            assert value.equal(found[key]), key
    table = 'backbone.layers.0.attn.relative_position_bias_table'
    assert found[table].shape == (47 * 47 + 3, 2)
