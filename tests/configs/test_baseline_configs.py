# Copyright (c) mmcim contributors. All rights reserved.
"""The baselines' configs: a fair table needs the same data and schedule."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import HOOKS, MODELS
from mmpretrain.structures import DataSample

from mmcim.models.tokenizers import DiscreteVAENet

from .batches import effective_batch_size
from .test_configs import narrow_dalle  # noqa: F401
from .test_conmim_configs import CONFIGS, WIDTH, load, narrow

METHODS = ('beit', 'mae', 'simmim', 'mocov3')
PRETRAINING = [f'baselines/vit-b_{m}_8xb256-300e.py' for m in METHODS]
TWINS = [f'baselines/vit-s_{m}_1xb128-300e_imagenette-128.py' for m in METHODS]
DIGITS = [f'quickstart/{m}.py' for m in METHODS]
DINO = ['baselines/vit-b_dino_8xb128-400e.py', 'baselines/vit-s_dino_8xb128-800e.py']
DINO += ['quickstart/dino.py']
# Name -> learning rate, effective batch, epochs of warm-up, lowest fraction, crops from.
SIAMESE = {
    'mocov3_8xb256': (2.4, 2048, 10, 0.0, 0.2),
    'simclr_8xb256': (2.4, 2048, 10, 0.0, 0.08),
    'barlowtwins_8xb256': (1.6, 2048, 10, 1e-3, 0.08),
    'byol_8xb256': (2.4, 2048, 10, 0.0, 0.08),
    'mocov2_8xb32': (0.03, 256, 0, 0.0, 0.2),
    'simsiam_8xb64': (0.1, 512, 0, 0.0, 0.2),
    'swav_8xb32': (0.6, 256, 0, 1e-3, 0.14),
}
SCRATCH = sorted(path.stem for path in CONFIGS.glob('baselines/*_scratch_*.py'))


def build(cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
        model.init_weights()
        return model.train(), build_optim_wrapper(model, cfg.optim_wrapper)


def test_configs_exist():
    for name in [*PRETRAINING, *TWINS, *DIGITS]:
        assert (CONFIGS / name).is_file(), name
    assert len(SCRATCH) == 4


@pytest.mark.parametrize('name', [*PRETRAINING, *TWINS, *DIGITS, *DINO])
def test_config_makes_a_step(name, narrow_dalle, tmp_path):  # noqa: F811
    cfg = load(name)
    side = cfg.model.backbone.img_size
    narrow(cfg.model.backbone)
    if 'beit' in name:
        cfg.model.head.embed_dims = WIDTH
        tokenizer = cfg.model.tokenizer
        if tokenizer.type == 'DALLETokenizer':
            tokenizer.checkpoint = narrow_dalle
        else:
            vocab_size = cfg.model.head.vocab_size
            net = DiscreteVAENet(stride=4, vocab_size=vocab_size, width=16, code_dims=8)
            tokenizer.checkpoint = str(tmp_path / 'dvae.pth')
            torch.save(net.state_dict(), tokenizer.checkpoint)
    elif 'mae' in name:
        cfg.model.neck.update(
            embed_dim=WIDTH, decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2
        )
    elif 'simmim' in name:
        cfg.model.neck.in_channels = WIDTH
    elif 'dino' in name:
        cfg.model.backbone.drop_path_rate = 0.0
        cfg.model.neck.update(in_channels=WIDTH, hid_channels=16, out_channels=8)
        cfg.model.head.out_channels = 8
    else:
        cfg.model.neck.update(in_channels=WIDTH, hid_channels=16, out_channels=8)
        cfg.model.head.predictor.update(in_channels=8, hid_channels=16, out_channels=8)
    model, optim = build(cfg)
    before = {key: value.clone() for key, value in model.named_parameters()}
    crops = torch.randint(256, (2, 2, 3, side, side), dtype=torch.uint8)
    inputs = list(crops) if 'mocov3' in name or 'dino' in name else crops[0]
    log = model.train_step(dict(inputs=inputs, data_samples=None), optim)
    assert torch.isfinite(log['loss'])
    for key, value in model.named_parameters():
        # A gamma of ConMIM's 0.1 and a mask token are learnt, but little by one step.
        if value.requires_grad and 'gamma' not in key and 'mask_token' not in key:
            assert not value.equal(before[key]), key


@pytest.mark.parametrize('name', SIAMESE)
def test_siamese_recipes(name):
    cfg = load(f'baselines/resnet50_{name}-300e.py')
    lr, batch, warm_up, lowest, smallest = SIAMESE[name]
    assert cfg.train_cfg.max_epochs == 300
    assert cfg.optim_wrapper.optimizer.lr == lr
    assert cfg.optim_wrapper.clip_grad is None
    assert effective_batch_size(cfg, 8) == cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.param_scheduler[-1].begin == warm_up == 10 * len(cfg.param_scheduler[:-1])
    assert cfg.param_scheduler[-1].eta_min_ratio == lowest
    (views,) = [step for step in cfg.train_pipeline if step.type == 'MultiView']
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert views.transforms[0][0].crop_ratio_range == (smallest, 1.0)
    assert cfg.sync_bn == (None if 'mocov2' in name else 'torch')
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.depth) == ('ResNet', 50)


@pytest.mark.parametrize('name', SIAMESE)
def test_siamese_config_makes_a_step(name):
    cfg = load(f'baselines/resnet50_{name}-300e.py')
    cfg.model.backbone.depth = 18
    cfg.model.neck.in_channels = 512
    if 'queue_len' in cfg.model:
        cfg.model.update(queue_len=8)
    if 'barlowtwins' in name:
        cfg.model.neck.update(hid_channels=64, out_channels=32)
        cfg.model.head.in_channels = 32
    model, optim = build(cfg)
    before = {key: value.clone() for key, value in model.named_parameters()}
    crops = torch.randint(256, (2, 4, 3, 64, 64), dtype=torch.uint8)
    for _ in range(2):  # residual branches begin with a norm of weight zero
        log = model.train_step(dict(inputs=list(crops), data_samples=None), optim)
        assert torch.isfinite(log['loss'])
    still = [k for k, p in model.named_parameters() if p.equal(before[k])]
    assert all(k.startswith('momentum_encoder.') for k in still)
    groups = optim.optimizer.param_groups
    for group in groups:
        adapted = group['weight_decay'] > 0 or group.get('always_adapt', False)
        if '8xb256' in name:  # by LARS, but for SwAV's
            assert all(adapted == (p.ndim > 1) for p in group['params'])
        elif 'swav' in name:
            assert adapted
    fixed = [group for group in groups if group.get('fix_lr')]
    count = sum(len(group['params']) for group in fixed)
    assert count == (5 if 'simsiam' in name else 0)  # of the predictor


def test_predictor_of_simsiam_keeps_its_learning_rate():
    cfg = load('baselines/resnet50_simsiam_8xb64-300e.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        hook = HOOKS.build(cfg.custom_hooks[0])
    groups = [dict(lr=0.05, fix_lr=True), dict(lr=0.05)]
    optimizer = SimpleNamespace(param_groups=groups)
    hook.before_train_iter(
        SimpleNamespace(optim_wrapper=SimpleNamespace(optimizer=optimizer)), 0
    )
    assert [group['lr'] for group in groups] == [cfg.optim_wrapper.optimizer.lr, 0.05]


@pytest.mark.parametrize('baselines, of_cim', [
    (PRETRAINING, 'cim/vit-b_8xb256-300e.py'),
    (TWINS, 'cim/vit-s_1xb128-300e_imagenette-128.py'),
    (DIGITS, 'quickstart/cim_respix.py'),
])  # fmt: skip
def test_same_data_and_schedule(baselines, of_cim):
    cim = load(of_cim)
    for name in baselines:
        cfg = load(name)
        assert cfg.train_cfg == cim.train_cfg
        if name in DIGITS or not name.count('mae') + name.count('mocov3'):
            assert cfg.param_scheduler == cim.param_scheduler
        assert cfg.get('auto_scale_lr') == cim.get('auto_scale_lr')
        loader, of = cfg.train_dataloader, cim.train_dataloader
        assert loader.batch_size == of.batch_size
        pipelines = loader.dataset.pop('pipeline'), of.dataset.pop('pipeline')
        assert loader.dataset == of.dataset
        of.dataset.pipeline = pipelines[1]
        if 'mocov3' not in name:
            assert pipelines[0] == pipelines[1]
            continue
        (views,) = [step for step in pipelines[0] if step.type == 'MultiView']
        assert views.num_views == 2
        # The same crops, but two of them.
        flat = [
            inner
            for step in pipelines[0]
            for inner in (step.transforms[0] if step is views else [step])
        ]
        assert flat == pipelines[1]


@pytest.mark.parametrize('name', PRETRAINING)
def test_networks_match_cim(name):
    """ViT-B/16; BEiT and SimMIM with relative positions, as their authors have it."""
    model = load(name).model
    with torch.device('meta'):
        net = MODELS.build(model.backbone)
    assert (net.embed_dims, len(net.layers), net.patch_resolution) == (768, 12, (14, 14))
    layer = net.layers[-1]
    assert layer.attn.num_heads == 12
    assert layer.ffn.feedforward_channels == 3072
    relative = 'beit' in name or 'simmim' in name
    assert (net.pos_embed is None) == relative


@pytest.mark.parametrize('name', SCRATCH)
def test_from_scratch(name):
    cfg = load(f'baselines/{name}.py')
    backbone = cfg.model.backbone
    assert all(init.type != 'Pretrained' for init in backbone.init_cfg)
    if 'resnet' in name:
        backbone.update(depth=18, zero_init_residual=False)
        cfg.model.head.in_channels = 512
    else:
        assert cfg.train_cfg.max_epochs == 300
        assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 1.0
        start = cfg.param_scheduler[0].start_factor
        assert start * cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-6)
        narrow(backbone)
        backbone.drop_path_rate = 0.0
        cfg.model.head.in_channels = WIDTH
    model, optim = build(cfg)
    before = {key: value.clone() for key, value in model.named_parameters()}
    side = 128 if 'imagenette' in name else 224
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    inputs = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    log = model.train_step(dict(inputs=inputs, data_samples=samples), optim)
    assert torch.isfinite(log['loss'])
    for key, value in model.named_parameters():
        assert not value.equal(before[key]), key
