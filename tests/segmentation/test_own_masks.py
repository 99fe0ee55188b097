# Copyright (c) mmcim contributors. All rights reserved.
"""docs/own-masks.md: its config with backbones of patches of 8 and 16 px."""

import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, DefaultScope
from PIL import Image

from mmcim.checkpoints import adopt_pretrained
from mmcim.datasets import inspect_dataset
from mmcim.utils import ConfigError, load_config

from ..backbone_files import write_backbone
from ..cli.toy_run import REPO, run_forked
from ..documents import runnable_blocks

pytest.importorskip('mmseg')

(PAGE,) = (b for b in runnable_blocks() if b.document == 'own-masks.md')
OWN_MASKS = REPO / 'docs/own-masks.md'
BASE = REPO / 'configs/segmentation/vit_upernet_1xb8-amp-2k_masks.py'
CLASSES = ('sky', 'building', 'road', 'tree', 'car')
COLOURS = np.array(
    [[90, 140, 220], [150, 60, 60], [90, 90, 90], [40, 150, 40], [230] * 3]
)
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
HEIGHT, WIDTH = 48, 72
# Width, layers and size differ from one another and from those of the base.
BACKBONES = {
    8: dict(embed_dims=24, num_layers=6, num_heads=2, feedforward_channels=32),
    16: dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=32),
}


def write_masks(root):
    """Scenes of three bands of classes, in their colours and noise; a border is 255."""
    random = np.random.default_rng(0)
    for split, count in (('train', 16), ('val', 5)):
        for folder in ('images', 'masks'):
            (root / folder / split).mkdir(parents=True)
        for i in range(count):
            mask = np.repeat(random.permutation([*range(5)])[:3], HEIGHT // 3)
            mask = np.repeat(mask[:, None], WIDTH, axis=1)
            pixels = COLOURS[mask] + random.integers(-20, 20, (HEIGHT, WIDTH, 3))
            mask[:, :3] = 255
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / f'images/{split}/{i}.jpg', quality=95)
            Image.fromarray(mask.astype(np.uint8)).save(root / f'masks/{split}/{i}.png')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Masks, backbones, and a config for each: that of the page with short runs."""
    folder = tmp_path_factory.mktemp('own_masks')
    write_masks(folder / 'data')
    text = PAGE.code.replace("'./", f"'{BASE.parent}/")
    text = text.replace("'DIR'", repr(str(folder / 'data')))
    (folder / 'page.py').write_text(text)
    for patch, arch in BACKBONES.items():
        config = dict(type='FixedPositionViT', arch=arch, img_size=32, patch_size=patch)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            network = MODELS.build(dict(config))
            network.init_weights()
        path = folder / f'{patch}_backbone.safetensors'
        write_backbone(path, network.state_dict(), config, mean=MEAN, std=STD)
    return folder


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def adopted(folder, patch, name='page'):
    file = str(folder / f'{patch}_backbone.safetensors')
    cfg = load_config(folder / f'{name}.py', pretrained=file)
    adopt_pretrained(cfg)
    return cfg


def build(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


def test_page_names_classes_of_the_test(folder):
    """And nothing but data, classes and the size."""
    assert Config.fromfile(folder / 'page.py').masks.metainfo.classes == CLASSES
    assert len(PAGE.code.splitlines()) <= 10


@pytest.mark.parametrize('patch', BACKBONES)
def test_maps_have_strides_of_4_to_32_px(folder, patch):
    cfg = adopted(folder, patch)
    model = build(cfg).eval()
    width = BACKBONES[patch]['embed_dims']
    for height, side in ((64, 96), (256, 256)):
        maps = model.extract_feat(torch.randn(1, 3, height, side))
        expected = [(1, width, height // s, side // s) for s in (4, 8, 16, 32)]
        assert [tuple(map_.shape) for map_ in maps] == expected
    net = model.backbone
    layers = {8: [0, 2, 3, 5], 16: [0, 1, 2, 3]}[patch]  # quarters of 6 and of 4
    assert (net.out_indices, net.img_size) == (layers, (256, 256))
    assert net.patch_embed.projection.kernel_size == (patch, patch)
    preprocessor = model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == MEAN
    assert preprocessor.std.flatten().tolist() == STD


@pytest.mark.parametrize('patch', BACKBONES)
def test_a_step_and_a_prediction(folder, patch):
    cfg = adopted(folder, patch)
    model, data = build(cfg), DATASETS.build(cfg.train_dataloader.dataset)
    assert len(data) == 16 and data.metainfo['classes'] == CLASSES
    np.random.seed(0)
    batch = pseudo_collate([data[i] for i in range(2)])
    for image, sample in zip(batch['inputs'], batch['data_samples']):
        assert max(image.shape[1:]) <= 256
        assert {*sample.gt_sem_seg.data.unique().tolist()} <= {0, 1, 2, 3, 4, 255}
    padded = model.data_preprocessor(batch, training=True)['inputs']
    assert padded.shape == (2, 3, 256, 256)
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    assert torch.isfinite(model.train().train_step(batch, optim)['loss'])
    still = {key for key, value in model.named_parameters() if value.equal(before[key])}
    assert not still, f'no step for {still}'
    data = DATASETS.build(cfg.val_dataloader.dataset)
    with torch.no_grad():
        (result,) = model.eval().test_step(pseudo_collate([data[0]]))
    assert data[0]['inputs'].shape == (3, 256, 384)  # 48 x 72 px at a short edge of 256
    assert result.seg_logits.data.shape == (5, HEIGHT, WIDTH)


def test_size_is_by_default_that_of_the_pre_training(folder):
    text = (folder / 'page.py').read_text()
    (folder / 'own_size.py').write_text(text.replace('img_size=256', ''))
    (folder / 'wide.py').write_text(text.replace('=256', '=(64, 96)'))
    for name, size in dict(own_size=(32, 32), wide=(64, 96)).items():
        cfg = adopted(folder, 8, name)
        assert cfg.data_preprocessor.size == cfg.model.data_preprocessor.size == size
        scale = (4 * size[0], size[0])
        train, test = (cfg[f'{m}_dataloader'].dataset.pipeline for m in ('train', 'val'))
        assert [t.get('scale') or t.get('crop_size') for t in train[2:4]] == [scale, size]
        assert test[1].scale == cfg.tta_pipeline[1].transforms[0][0].scale == scale
        assert (cfg.crop_size, cfg.scale) == (size, scale)
        assert "'auto'" not in repr(cfg.model.to_dict())


def test_value_of_no_class_is_refused(folder, tmp_path):
    cfg = adopted(folder, 8).val_dataloader.dataset
    cfg.data_prefix.seg_map_path = str(tmp_path)
    for path in (folder / 'data/masks/val').iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    inspect_dataset(DATASETS.build(cfg), False, None)
    Image.new('L', (WIDTH, HEIGHT), 7).save(tmp_path / '3.png')
    message = 'masks have the values [7], but there are 5 classes'
    with pytest.raises(ConfigError, match=re.escape(message)):
        inspect_dataset(DATASETS.build(cfg), False, None)
    assert message in OWN_MASKS.read_text()


def test_resnet_needs_other_widths_and_no_neck(folder, tmp_path):
    config = dict(type='ResNet', depth=50, stem_channels=8, base_channels=8)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        tensors = MODELS.build(dict(config)).state_dict()
    write_backbone(
        tmp_path / '8_backbone.safetensors', tensors, config, mean=MEAN, std=STD
    )
    text = (folder / 'page.py').read_text()
    (tmp_path / 'page.py').write_text(text)
    with pytest.raises(ConfigError, match='a ResNet with .* config is for transformers'):
        adopted(tmp_path, 8)
    found = re.search(r'^model = dict\(\n.+?^\)', OWN_MASKS.read_text(), re.M | re.S)[0]
    for wide in (256, 512, 1024, 2048):
        found = re.sub(rf'\b{wide}\b(?!, out)', str(wide // 8), found)
    (tmp_path / 'resnet.py').write_text(f'{text}\n{found}\n')
    model = build(adopted(tmp_path, 8, 'resnet'))
    maps = model.extract_feat(torch.randn(1, 3, 64, 96))
    assert [tuple(map_.shape[1:]) for map_ in maps] == [
        (32 * s // 4, 64 // s, 96 // s) for s in (4, 8, 16, 32)
    ]
    assert model.decode_head.num_classes == 5
    assert model.data_preprocessor.size == (256, 256)


def test_file_of_another_project_is_one_line(folder, tmp_path):
    """It does not record its network, and the config has none of its own."""
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'foreign.pth')
    cfg = load_config(folder / 'page.py', pretrained=str(tmp_path / 'foreign.pth'))
    with pytest.raises(ConfigError, match='foreign.pth does not say which network'):
        adopt_pretrained(cfg)


SHORT = """
_base_ = './page.py'
model = dict(backbone=dict(img_size=32))
train_dataloader = dict(num_workers=0)
val_dataloader = test_dataloader = dict(num_workers=0)
train_cfg = dict(max_iters=40, val_interval=40)
optim_wrapper = dict(optimizer=dict(lr=5e-3), paramwise_cfg=dict(layer_decay_rate=0.9))
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=40), logger=dict(interval=10))
randomness = dict(seed=0)
"""
# As on the page, in the work directory.
PREDICT = """
import sys
from mmseg.apis import MMSegInferencer
import mmcim
config, checkpoint, out_dir = sys.argv[1:]
MMSegInferencer(config, checkpoint, device='cpu')('data/images/val', out_dir=out_dir)
"""


@pytest.mark.slow
@pytest.mark.parametrize('patch', BACKBONES)
def test_from_folders_to_predictions(folder, patch):
    """Trained, tested by the config in its work directory, drawn, and new images."""
    (folder / 'short.py').write_text(SHORT)
    (folder / 'predict.py').write_text(PREDICT)
    work = folder / f'work_{patch}'
    file, checkpoint = folder / f'{patch}_backbone.safetensors', work / 'iter_40.pth'
    train = ['train.py', folder / 'short.py', '--pretrained', file, '--work-dir', work]
    test = ['test.py', work / 'short.py', checkpoint, '--work-dir', work / 'tested']
    cases = dict(
        train=train,
        test=[*test, '--show-dir', work / 'drawn'],
        tta=[*test, '--tta'],
        predict=[folder / 'predict.py', work / 'short.py', checkpoint, work / 'new'],
    )
    results = run_forked(cases, folder)
    for name, result in results.items():
        assert result.code == 0, f'{name}: {result.output}'
    for name in ('test', 'tta'):
        found = dict(re.findall(r'^(\w+): ([\d.]+)$', results[name].output, re.MULTILINE))
        assert float(found['mIoU']) > 50, results[name].output
    log = next((work / 'tested').glob('*/*.log')).read_text()
    for name in CLASSES:  # the table of IoU and accuracy per class
        assert re.search(rf'\| +{name} +\|', log), log
    assert len(list((work / 'drawn').rglob('*.png'))) == 5
    predicted = [np.asarray(Image.open(p)) for p in (work / 'new/pred').iterdir()]
    assert len(predicted) == 5
    assert all(p.shape == (HEIGHT, WIDTH) and p.max() < 5 for p in predicted)
    assert len(list((work / 'new/vis').iterdir())) == 5
