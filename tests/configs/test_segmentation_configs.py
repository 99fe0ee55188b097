# Copyright (c) mmcim contributors. All rights reserved.
"""Every segmentation config builds, makes a step and segments, at a reduced size."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

from mmcim.engine import AutoAmpOptimWrapper

pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample  # noqa: E402

from ..conftest import init_weights  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = sorted(path.stem for path in (CONFIGS / 'segmentation').glob('*.py'))
# The other has the network of a file, and tests in tests/segmentation/test_own_masks.py.
COMPLETE = [name for name in NAMES if not name.endswith('_masks')]
WIDTH = 16


def load(name):
    return Config.fromfile(CONFIGS / f'segmentation/{name}.py')


def heads(model):
    return [model[key] for key in ('decode_head', 'auxiliary_head') if key in model]


def shrink(cfg):
    """Narrow all networks and make everything an eighth as large; depths stay."""
    model = cfg.model
    backbone = model.backbone
    if 'init_cfg' in backbone:
        backbone.init_cfg = None
    if backbone.type.endswith('ResNet'):
        backbone.update(stem_channels=8, base_channels=8)
        widths = [32, 64, 128, 256]
    else:
        backbone.arch = dict(
            embed_dims=WIDTH,
            num_layers=24 if backbone.arch == 'large' else 12,
            num_heads=2,
            feedforward_channels=WIDTH,
        )
        backbone.img_size = 64
        assert backbone.drop_path_rate == (0.2 if backbone.arch.num_layers == 24 else 0.1)
        backbone.drop_path_rate = 0.0  # a dropped branch would make no step
        widths = [WIDTH] * 4
    if model.get('neck'):
        model.neck.embed_dim = WIDTH
    for head in heads(model):
        if isinstance(head.in_channels, list):
            head.in_channels = widths
        else:
            last = head.in_channels in (768, 384, 192, 2048)
            head.in_channels = widths[-1] if last else widths[2]
        head.channels = head.in_channels if head.get('num_convs') == 0 else 8
    model.data_preprocessor.size = (64, 64)
    if model.test_cfg.mode == 'slide':
        assert model.test_cfg == dict(
            mode='slide', crop_size=(512, 512), stride=(341, 341)
        )
        model.test_cfg.update(crop_size=(64, 64), stride=(43, 43))


def sample(shape, classes):
    labels = torch.randint(classes, (1, *shape))
    labels[:, :5] = 255 if classes == 150 else classes  # CamVid's void
    return SegDataSample(
        gt_sem_seg=PixelData(data=labels),
        metainfo=dict(ori_shape=shape, img_shape=shape, pad_shape=shape),
    )


def batch(shape, classes, size):
    images = [torch.randint(256, (3, *shape), dtype=torch.uint8) for _ in range(size)]
    return dict(inputs=images, data_samples=[sample(shape, classes) for _ in images])


def test_configs_exist():
    assert 'vit-b_upernet_8xb2-160k_ade20k-512x512' in NAMES
    assert len(NAMES) >= 13


@pytest.mark.parametrize('name', COMPLETE)
def test_config_makes_a_step_and_segments(name):
    torch.manual_seed(0)
    cfg = load(name)
    shrink(cfg)
    if 'vit-l' in name:  # steps of early norms are less than float32 has beside 1
        cfg.optim_wrapper.paramwise_cfg.layer_decay_rate = 1.0
    classes = 150 if 'ade20k' in name else 11
    assert {head.num_classes for head in heads(cfg.model)} == {classes}
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
        init_weights(model)
        optim = build_optim_wrapper(model, cfg.optim_wrapper)

    model.train()
    before = {key: value.clone() for key, value in model.named_parameters()}
    # A residual branch that ends in a norm of weight zero moves from the second step on.
    for _ in range(2 if 'resnet' in name else 1):
        log = model.train_step(batch((64, 64), classes, size=2), optim)
        assert torch.isfinite(log['loss'])
    still = [key for key, value in model.named_parameters() if value.equal(before[key])]
    assert not still, f'no step for {still}'

    windows = []
    model.backbone.register_forward_hook(lambda *args: windows.append(args[1][0].shape))
    model.eval()
    data = batch((75, 101), classes, size=1)
    with torch.no_grad():
        (result,) = model.test_step(data)
    prediction = result.pred_sem_seg.data
    assert prediction.shape == (1, 75, 101)
    assert 0 <= prediction.min() <= prediction.max() < classes
    # 2 x 2 windows of 64 px cover 75 x 101 px, at most 43 px apart; whole images of
    # transformers are padded to whole patches.
    if cfg.model.test_cfg.mode == 'slide':
        assert windows == [(1, 3, 64, 64)] * 4
    else:
        assert windows == [(1, 3, 75, 101) if 'ade20k' in name else (1, 3, 96, 128)]


@pytest.mark.parametrize('name', NAMES)
def test_amp_is_where_the_name_says_so(name):
    cfg = load(name).optim_wrapper
    cfg.pop('constructor')
    cfg.pop('paramwise_cfg')
    with DefaultScope.overwrite_default_scope('mmseg'):
        wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg)
    if '-amp-' in name:
        assert isinstance(wrapper, AutoAmpOptimWrapper)
        assert cfg.get('precision', 'auto') == 'auto'
    else:
        assert type(wrapper) is OptimWrapper


@pytest.mark.parametrize('name', NAMES)
def test_schedule_ends_with_the_training(name):
    cfg = load(name)
    warm_up, decay = cfg.param_scheduler
    assert warm_up.begin == 0
    assert warm_up.end == decay.begin
    assert 'end' not in decay  # that of the training
    assert cfg.train_cfg.max_iters % cfg.default_hooks.checkpoint.interval == 0
    # The last validation is that of the last checkpoint.
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval


@pytest.mark.parametrize('name', COMPLETE)
def test_backbone_is_one_that_is_pre_trained(name):
    """Same architecture as in the pre-training whose file is taken."""
    cfg = load(name)
    init = cfg.model.backbone.get('init_cfg')
    if init is None:
        assert '400i' in name  # the small ones train from random weights by default
        return
    _, method, run, file = Path(init.checkpoint).parts
    source = Config.fromfile(CONFIGS / f'{method}/{run}.py')
    assert file == f'epoch_{source.train_cfg.max_epochs}_backbone.safetensors'
    theirs = source.model.get('enhancer', source.model).backbone
    ours = cfg.model.backbone
    kind = dict(
        FusedBEiTPretrainViT='FusedBEiTViT', MAEBaselineViT='VisionTransformer'
    ).get(theirs.type, theirs.type)
    if '_fcn_' in name:
        kind = f'Dilated{kind}'
    assert ours.type == f'mmpretrain.{kind}'
    for key in ('arch', 'depth', 'patch_size'):
        assert ours.get(key) == theirs.get(key)


@pytest.mark.parametrize('name', NAMES)
def test_same_config_on_any_machine(name):
    cfg = load(name)
    assert 'SyncBN' not in str(cfg.to_dict())
    assert cfg.sync_bn == 'torch'
    # mmseg's own tools build cfg.model and nothing else.
    assert cfg.model.data_preprocessor == cfg.data_preprocessor
