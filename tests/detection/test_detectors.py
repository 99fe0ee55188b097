# Copyright (c) mmcim contributors. All rights reserved.
"""Mask R-CNN of the configs on synthetic COCO images."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.registry import MODELS as BACKBONES

from mmcim.utils import check_keys

from ..backbone_files import write_backbone
from ..cli.toy_run import environment
from ..conftest import REPO
from .coco_images import CLASSES, write_coco
from .conftest import ARCH

if not find_spec('mmdet'):
    pytest.skip('mmdetection is missing: .ci/install_det.sh', allow_module_level=True)
pytestmark = pytest.mark.slow

CONFIGS = sorted((REPO / 'configs/detection').glob('*.py'))
COMPLETE = [path for path in CONFIGS if not path.stem.endswith('_coco-folder')]

# 128 px, maps and heads of 32 channels, and few regions: seven steps take a second.
TOY = """
_base_ = '{base}'
data = dict(data_root='{root}/', metainfo=dict(classes={classes}))
resize = {{**_base_.resize, 'scale': (128, 128)}}
train_pipeline = [_base_.load, _base_.annotate, resize, _base_.pack]
test_pipeline = [_base_.load, resize, _base_.annotate, _base_.pack]
train_dataloader = dict(num_workers=0, dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, dataset=dict(**data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(ann_file='{root}/val.json')
model = dict(
    data_preprocessor=dict(pad_size_divisor=128),
    backbone=dict(img_size=128, window_size=4, drop_path_rate=0.0),
    neck=dict(out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, conv_out_channels=32, fc_out_channels=128),
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32, num_convs=2),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=50), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(max_per_img=50)),
)
train_cfg = dict(max_iters=300, val_interval=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, end=300),
]
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1e-3))
default_hooks = dict(checkpoint=dict(interval=300))
randomness = dict(seed=0)
"""


@pytest.fixture
def det_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def narrow(model):
    """Narrow the networks, and take fewer regions."""
    model.roi_head.bbox_head.update(fc_out_channels=32, conv_out_channels=16)
    model.roi_head.mask_head.conv_out_channels = 16
    model.train_cfg.rpn_proposal.max_per_img = 50
    model.train_cfg.rcnn.sampler.num = 32
    model.backbone.init_cfg = None
    if 'ResNet' in model.backbone.type:
        model.backbone.update(stem_channels=8, base_channels=8)
        model.neck.in_channels = [32, 64, 128, 256]
        return
    model.backbone.arch = ARCH
    model.backbone.drop_path_rate = 0.0
    model.neck.in_channels = ARCH['embed_dims']
    if 'img_size' in model.backbone:
        model.backbone.img_size = 64


@pytest.mark.parametrize('path', COMPLETE, ids=lambda path: path.stem)
def test_config_makes_a_step(path, det_scope, tmp_path):
    import mmdet.datasets  # noqa: F401
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    cfg = Config.fromfile(path)
    check_keys(cfg)
    torch.manual_seed(0)
    narrow(cfg.model)
    cfg.model.data_preprocessor.pad_size_divisor = 64
    model = MODELS.build(cfg.model)
    model.init_weights()
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.clone() for name, p in model.named_parameters()}
    shape = dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=dict(shape, img_id=0))
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[:, 10:40, 12:44] = 1
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[12.0, 10, 44, 40]]),
        labels=torch.tensor([3]),
        masks=BitmapMasks(mask.numpy(), 64, 64),
    )
    images = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    batch = dict(inputs=[images] * 2, data_samples=[sample, sample.clone()])
    model.train()
    for _ in range(2):
        log = model.train_step(batch, optim)
        assert torch.isfinite(log['loss'])
    still = [name for name, p in model.named_parameters() if p.equal(before[name])]
    # Tables have rows of a class token that is not there, but all others move.
    assert not still, f'no step for {still}'


@pytest.mark.parametrize('kind', ['VisionTransformer', 'FusedBEiTPretrainViT'])
def test_four_images_are_learned_by_heart(kind, tmp_path):
    """By the tools, from an exported backbone; both APs are printed."""
    write_coco(tmp_path / 'data')
    config = dict(type=kind, arch=ARCH, img_size=64)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        network = BACKBONES.build(dict(config))
        network.init_weights()
    file = tmp_path / 'backbone.safetensors'
    write_backbone(file, network.state_dict(), config, mean=[60.0] * 3, std=[60.0] * 3)
    base = REPO / 'configs/detection/vit_mask-rcnn_1xb2-2k_coco-folder.py'
    text = TOY.format(base=base, root=tmp_path / 'data', classes=CLASSES)
    (tmp_path / 'toy.py').write_text(text)

    def tool(name, *args):
        command = [sys.executable, REPO / f'tools/{name}.py', *map(str, args)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        for task in ('bbox', 'segm'):
            assert f'coco/{task}_mAP_50' in printed

    tool('train', 'toy.py', '--pretrained', file, '--work-dir', 'run')
    tool('test', 'run/toy.py', 'run/iter_300.pth', '--out', 'metrics.json')
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    for task in ('bbox', 'segm'):
        assert metrics[f'coco/{task}_mAP_50'] > 0.8, metrics
