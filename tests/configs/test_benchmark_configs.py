# Copyright (c) mmcim contributors. All rights reserved.
"""Every benchmark config takes its default backbone, trains and is tested."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from mmcim.utils import build_runner, load_config

from ..backbone_files import write_backbone
from .batches import effective_batch_size

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(path.stem for path in (CONFIGS / 'benchmarks').glob('*.py'))
NAMES = [name for name in NAMES if 'conmim' not in name]  # with tests of their own
FROZEN = [name for name in NAMES if name.startswith(('knn', 'logreg'))]
TRAINED = [name for name in NAMES if name not in FROZEN]
WIDTHS = dict(ResNet=256)  # others are transformers of width 32
COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch):
    """To lay out a config's text for the log takes longer than all else."""
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **kwargs: (text, False)
    )


def read(name):
    return Config.fromfile(CONFIGS / f'benchmarks/{name}.py')


def pre_training(cfg):
    """The config that writes the checkpoint that a benchmark's config reads."""
    _, method, name, file = cfg.model.backbone.init_cfg.checkpoint.split('/')
    found = Config.fromfile(CONFIGS / f'{method}/{name}.py')
    assert file == f'epoch_{found.train_cfg.max_epochs}_backbone.safetensors'
    return found


def narrow(backbone):
    """Shrink a backbone's config in place, but not its kind of layers."""
    if backbone.type == 'ResNet':
        backbone.update(stem_channels=8, base_channels=8)
        return
    backbone.arch = dict(
        embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32
    )
    if 'frozen_stages' in backbone:
        assert backbone.frozen_stages == 12
        backbone.frozen_stages = 2


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    """Three classes of one colour each, with noise: 12 to train on, 6 to validate."""
    folder = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for name, colour in zip('abc', COLOURS):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(-40, 40, (240, 250, 3)) + colour
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / split / name / f'{i}.jpg')
    return folder


def set_classes(node, number):
    """Set the number of classes in head, losses and mixing."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if key == 'num_classes':
            node[key] = number
        elif isinstance(value, dict | list):
            set_classes(value, number)


def prepare(name, data_root, folder):
    """Load a config as the tools do, shrink it, and write the backbone that it wants.

    Returns:
        The config and the backbone's tensors as the pre-training would write them.
    """
    cfg = load_config(CONFIGS / f'benchmarks/{name}.py', work_dir=str(folder / 'run'))
    source = pre_training(cfg).model
    source = source.get('enhancer', source).backbone
    narrow(source)
    narrow(cfg.model.backbone)
    width = WIDTHS.get(source.type, 32)
    cfg.model.head.in_channels = width
    if isinstance(cfg.model.get('neck'), list):
        cfg.model.neck[1].input_features = width

    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(source)
        backbone.init_weights()
    tensors = {
        key: value + 0.01 if value.is_floating_point() else value
        for key, value in backbone.state_dict().items()
    }
    checkpoint = folder / 'backbone.safetensors'
    write_backbone(checkpoint, tensors)
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)

    loaders = [cfg.test_dataloader, cfg.test_cfg.get('train_dataloader')]
    loaders += [cfg.get('train_dataloader'), cfg.get('val_dataloader')]
    for loader in filter(None, loaders):
        loader.update(num_workers=0, batch_size=4, pin_memory=False)
        loader.dataset.get('dataset', loader.dataset).data_root = str(data_root)
    cfg.randomness = dict(seed=0)
    return cfg, tensors


class Start(Hook):
    """What the first step starts from."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 0:
            state = runner.model.state_dict()
            self.weights = {key: value.clone() for key, value in state.items()}
            self.size = data_batch['inputs'].shape[-2:]


def training_size(name):
    if name.endswith('imagenette-128'):
        return 128
    return 160 if '_rsb-a3_' in name else 224


def test_all_benchmarks_exist():
    wanted = ['linear_8xb2048-90e_in1k', 'linear_1xb128-90e_imagenette-128']
    for data in ('in1k', 'imagenette-128'):
        wanted += [f'{kind}_{data}' for kind in ('knn', 'logreg')]
    for recipe, epochs in (('rsb-a2', 300), ('rsb-a3', 100)):
        wanted.append(f'resnet50_{recipe}_8xb256-{epochs}e_in1k')
    wanted.append('resnet50_rsb-a3_1xb128-100e_imagenette-128')
    for arch, epochs in (('vit-b', 100), ('vit-s', 200)):
        wanted.append(f'{arch}_finetune_8xb128-{epochs}e_in1k')
        wanted.append(f'{arch}_corrim_finetune_8xb256-{epochs}e_in1k')
    for method, epochs in (('simmim', 100), ('mae', 100), ('mocov3', 150)):
        wanted.append(f'vit-b_{method}_finetune_8xb128-{epochs}e_in1k')
    wanted.append('vit-s_finetune_1xb128-100e_imagenette-128')
    assert sorted(wanted) == NAMES


def test_linear_probe_fits_shared_memory_of_a_node():
    loader = read('linear_8xb2048-90e_in1k').train_dataloader
    images = loader.num_workers * loader.get('prefetch_factor', 2) * loader.batch_size
    assert 8 * images * 3 * 224 * 224 < 20e9


@pytest.mark.slow
@pytest.mark.parametrize('name', TRAINED)
def test_config_trains_and_validates(name, data_root, tmp_path):
    cfg, tensors = prepare(name, data_root, tmp_path)
    cfg.train_cfg.max_epochs = 1
    cfg.param_scheduler = []
    cfg.auto_scale_lr.enable = False
    set_classes([cfg.model, cfg.data_preprocessor], 3)
    cfg.val_evaluator.topk = cfg.test_evaluator.topk = (1,)
    runner = build_runner(cfg)
    start = Start()
    runner.register_hook(start)
    runner.train()
    before = start.weights
    assert start.size == (training_size(name),) * 2

    # Everything of the pre-trained backbone has arrived that the classifier has.
    own = {k.removeprefix('backbone.'): v for k, v in before.items()}
    taken = {k: v for k, v in tensors.items() if k in own}
    assert all(value.equal(own[key]) for key, value in taken.items())
    left = {key.split('.')[0] for key in tensors if key not in taken}
    # MoCo v3 keeps its norm.
    dropped = {'ln1'} if '_finetune_' in name and 'mocov3' not in name else set()
    if 'simmim' in name:
        dropped |= {'mask_token', 'rel_pos_bias'}
    assert left == dropped
    # A step moves all parameters, or those of the linear classifier alone.
    moved = {k for k, v in runner.model.named_parameters() if not v.equal(before[k])}
    assert moved == (
        {'head.fc.weight', 'head.fc.bias'}
        if name.startswith('linear')
        else {k for k, _ in runner.model.named_parameters()}
        - ({'backbone.pos_embed'} if 'corrim' in name else set())
    )
    scalar = runner.message_hub.get_scalar('val/accuracy/top1')
    assert 0 <= scalar.current() <= 100
    assert list((tmp_path / 'run').glob('best_accuracy_top1_epoch_1.pth'))
    batch = next(iter(runner.val_dataloader))
    size = 128 if name.endswith('imagenette-128') else 224
    assert batch['inputs'].shape[-2:] == (size, size)


@pytest.mark.parametrize('name', FROZEN)
def test_frozen_features_need_no_training(name, data_root, tmp_path):
    cfg, tensors = prepare(name, data_root, tmp_path)
    assert cfg.get('train_dataloader') is None and cfg.get('optim_wrapper') is None
    runner = build_runner(cfg)
    runner._init_model_weights()
    metrics = runner.test()
    kind = 'knn' if name.startswith('knn') else 'linear'
    # One colour, one class: even a random network separates them.
    assert metrics == {f'{kind}/top1': 100.0, f'{kind}/top5': 100.0}
    own = runner.model.backbone.state_dict()
    assert all(value.equal(own[key]) for key, value in tensors.items())
    # Of ImageNet logistic regression sees 1 % of the labels, here one for each class.
    few = name == 'logreg_in1k'
    assert len(runner.test_loop.train_dataloader.dataset) == (3 if few else 12)


def test_finetuning_has_new_norm_and_frozen_keeps_pretrained_norm(data_root, tmp_path):
    """Fine-tuned: a new norm of the mean of raw tokens. Frozen: the pre-trained one."""
    model, outputs = {}, {}
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name in ('vit-b_finetune_8xb128-100e_in1k', 'knn_in1k'):
        cfg, tensors = prepare(name, data_root, tmp_path)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model[name] = MODELS.build(cfg.model)
            model[name].init_weights()
            raw = MODELS.build(
                {**cfg.model.backbone, 'out_type': 'raw', 'final_norm': False}
            )
        tokens = {k: v for k, v in tensors.items() if not k.startswith('ln1')}
        raw.load_state_dict(tokens)
        raw.eval()
        with torch.no_grad():
            outputs[name] = model[name].eval().extract_feat(images, stage='pre_logits')
            patches = raw(images)[0][:, 1:]
    finetuned, frozen = outputs.values()

    def norm(x):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        return (x - mean) / (var + 1e-6).sqrt()

    torch.testing.assert_close(finetuned, norm(patches.mean(1)))
    normed = norm(patches) * tensors['ln1.weight'] + tensors['ln1.bias']
    torch.testing.assert_close(frozen, normed.mean(1))


RECIPES = {
    # name: processes, effective batch, learning rate, least one, warm-up, epochs
    'vit-b_finetune_8xb128-100e_in1k': (8, 1024, 4e-3, 1e-6, 20, 100),
    'vit-s_finetune_8xb128-200e_in1k': (8, 1024, 4e-3, 1e-6, 20, 200),
    'resnet50_rsb-a3_8xb256-100e_in1k': (8, 2048, 8e-3, 1e-6, 5, 100),
    'resnet50_rsb-a2_8xb256-300e_in1k': (8, 2048, 5e-3, 1e-6, 5, 300),
    'linear_8xb2048-90e_in1k': (8, 16384, 6.4, 0.0, 10, 90),
}


@pytest.mark.parametrize('name', RECIPES)
def test_learning_rate_over_time(name):
    """Linear warm-up, then half a cosine, for groups of different learning rates."""
    processes, batch, peak, least, warm_up, epochs = RECIPES[name]
    cfg = read(name)
    assert effective_batch_size(cfg, processes) == batch
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=batch)
    assert cfg.optim_wrapper.optimizer.lr == peak
    assert cfg.train_cfg.max_epochs == epochs

    scale = cfg.optim_wrapper.get('paramwise_cfg', {}).get('layer_decay_rate', 1) ** 13
    groups = [
        dict(params=[torch.nn.Parameter(torch.zeros(1))], lr=lr)
        for lr in (peak, scale * peak)
    ]
    optimizer = torch.optim.SGD(groups)
    per_epoch = 20
    schedulers = []
    for scheduler in cfg.param_scheduler:
        # Without an end it ends with training, as the runner builds it.
        kwargs = {'end': epochs, **scheduler}
        kwargs.pop('convert_to_iter_based')
        assert scheduler.convert_to_iter_based
        cls = PARAM_SCHEDULERS.get(kwargs.pop('type'))
        schedulers.append(
            cls.build_iter_from_epoch(
                optimizer=OptimWrapper(optimizer), epoch_length=per_epoch, **kwargs
            )
        )
    seen = []
    for _ in range(epochs * per_epoch):
        seen.append([group['lr'] for group in optimizer.param_groups])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()

    steps, warm = epochs * per_epoch, warm_up * per_epoch
    first = least if '_finetune_' in name else 1e-4 * peak
    for step in (0, warm // 2, warm, (steps + warm) // 2, steps - 1):
        if step < warm:
            expected = first + (peak - first) * step / (warm - 1)
        else:
            wave = (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
            expected = least + (peak - least) * wave
        assert seen[step][0] == pytest.approx(expected, rel=1e-2, abs=1e-9)
        if scale < 1:
            # In BEiT a layer's learning rate is always the same part of the highest.
            assert seen[step][1] == pytest.approx(scale * expected, rel=1e-2)


def test_imagenette_vit_s_differs_only_in_size_and_data():
    """The recipe is that of ImageNet-1k, the network that of its own pre-training."""
    names = 'vit-b_finetune_8xb128-100e_in1k', 'vit-s_finetune_1xb128-100e_imagenette-128'
    imagenet, imagenette = (read(name).to_dict() for name in names)
    for key in ('optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'train_cfg'):
        assert imagenette[key] == imagenet[key]
    imagenet['model']['backbone'].update(
        arch='deit-small',
        img_size=128,
        patch_size=8,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/vit-s_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors',
        ),
    )
    imagenet['model']['head'].update(in_channels=384, num_classes=10)
    assert imagenette['model'] == imagenet['model']
    backbone = pre_training(read(names[1])).model.enhancer.backbone
    assert backbone == dict(
        type='VisionTransformer',
        arch='deit-small',
        img_size=128,
        patch_size=8,
        out_type='featmap',
    )


def test_layer_decay_and_weight_decay(data_root, tmp_path):
    cfg, _ = prepare('vit-b_finetune_8xb128-100e_in1k', data_root, tmp_path)
    runner = build_runner(cfg)
    optim = runner.build_optim_wrapper(cfg.optim_wrapper)
    names = {id(p): name for name, p in runner.model.named_parameters()}
    groups = {
        names[id(p)]: (group['lr'], group['weight_decay'])
        for group in optim.optimizer.param_groups
        for p in group['params']
    }
    assert set(groups) == set(names.values())
    for name, (lr, weight_decay) in groups.items():
        part = name.removeprefix('backbone.').split('.')
        depth = 0 if part[0] in ('patch_embed', 'cls_token', 'pos_embed') else 3
        if part[0] == 'layers':
            depth = int(part[1]) + 1
        assert lr == pytest.approx(4e-3 * 0.65 ** (3 - depth)), name
        decays = part[-1] == 'weight' and not any('ln' in p for p in part)
        assert weight_decay == (0.05 if decays else 0.0), name
