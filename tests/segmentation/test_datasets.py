# Copyright (c) mmcim contributors. All rights reserved.
"""The configs' datasets on real files of ADE20K and CamVid."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, METRICS, MODELS, DefaultScope
from PIL import Image

pytest.importorskip('mmseg')

ADE = 'configs/segmentation/vit-b_upernet_8xb2-160k_ade20k-512x512.py'
CAMVID = 'configs/segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180.py'


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def read(path):
    return np.asarray(Image.open(path)).astype(int)


def ade_dataset(repo, ade20k_sample, loader='val_dataloader', **changes):
    cfg = Config.fromfile(repo / ADE)[loader].dataset
    cfg.data_root = str(ade20k_sample)
    cfg.data_prefix = dict(img_path='images', seg_map_path='annotations')
    cfg.update(changes)
    return DATASETS.build(cfg)


@pytest.fixture
def ade(repo, ade20k_sample):
    return ade_dataset(repo, ade20k_sample)


# Width and height of the three images, and once the shorter side has 512 px.
SIZES = [((683, 512), (683, 512)), ((500, 364), (703, 512)), ((400, 300), (683, 512))]


@pytest.mark.parametrize(
    ('loader', 'split'), [('train', 'training'), ('val', 'validation')]
)
def test_ade20k_is_found_where_unzip_puts_it(repo, tmp_path, monkeypatch, loader, split):
    """The config finds the official zip's folders below data/ade."""
    root = tmp_path / 'data/ade/ADEChallengeData2016'
    for kind, name in (('images', 'a.jpg'), ('annotations', 'a.png')):
        (root / kind / split).mkdir(parents=True)
        Image.new('L', (8, 8), 150).save(root / kind / split / name)
    (root / 'objectInfo150.txt').touch()
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(repo / ADE)[f'{loader}_dataloader'].dataset
    cfg.pipeline = [dict(type='LoadAnnotations')]
    (item,) = DATASETS.build(cfg)
    assert (item['gt_seg_map'] == 149).all()


def test_ade20k_validation_samples(ade, ade20k_sample):
    assert len(ade) == 3
    for i, (original, resized) in enumerate(SIZES):
        item = ade[i]
        assert item['inputs'].dtype == torch.uint8
        assert item['inputs'].shape == (3, *resized[::-1])
        labels = item['data_samples'].gt_sem_seg.data[0].numpy()
        # At the original size; classes start at 0, ignored pixels are 255.
        assert labels.shape == original[::-1]
        raw = read(ade20k_sample / f'annotations/ADE_val_{i + 1:08d}.png')
        assert raw.min() == 0
        assert (labels == np.where(raw == 0, 255, raw - 1)).all()
    assert set(np.unique(labels)) == {
        *(0, 1, 2, 4, 6, 11, 20, 43, 80, 87, 96, 102),
        255,
    }


def test_ade20k_classes_match_official_list(ade, ade20k_sample):
    """In the order of objectInfo150.txt, whose numbers are those in the masks."""
    lines = (ade20k_sample.parent / 'objectInfo150.txt').read_text().splitlines()[1:]
    classes = [name.strip() for name in ade.metainfo['classes']]
    assert len(lines) == len(classes) == 150
    for number, (line, name) in enumerate(zip(lines, classes, strict=True), start=1):
        fields = line.split('\t')
        assert int(fields[0]) == number
        assert name in [part.strip() for part in fields[4].replace(';', ',').split(',')]


def test_ade20k_training_samples(repo, ade20k_sample):
    np.random.seed(0)
    dataset = ade_dataset(repo, ade20k_sample, 'train_dataloader')
    items = [dataset[i] for i in range(3)]
    assert min(item['inputs'].shape[1] for item in items) < 512  # shrunk to 0.5 to 1
    cfg = Config.fromfile(repo / ADE).model.data_preprocessor
    batch = MODELS.build(cfg)(pseudo_collate(items), training=True)
    assert batch['inputs'].shape == (3, 3, 512, 512)
    for i, (item, sample) in enumerate(zip(items, batch['data_samples'])):
        height, width = item['inputs'].shape[1:]
        labels = sample.gt_sem_seg.data[0]
        assert labels.shape == (512, 512)
        outside = torch.ones(512, 512, dtype=torch.bool)
        outside[:height, :width] = False
        assert (labels[outside] == 255).all()
        assert (batch['inputs'][i][:, outside] == 0).all()
        raw = read(ade20k_sample / f'annotations/ADE_val_{i + 1:08d}.png')
        assert set(labels.unique().tolist()) <= {*(np.unique(raw) - 1), 255} - {-1}
        # RGB, by ImageNet's mean and standard deviation; the loader gives BGR.
        mean, std = torch.tensor([[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]])
        expected = (item['inputs'].flip(0).permute(1, 2, 0) - mean) / std
        torch.testing.assert_close(
            batch['inputs'][i, :, :height, :width], expected.permute(2, 0, 1)
        )


def test_ade20k_test_time_augmentation(repo, ade20k_sample):
    pipeline = Config.fromfile(repo / ADE).tta_pipeline
    item = ade_dataset(repo, ade20k_sample, pipeline=pipeline)[1]
    images, samples = item['inputs'], item['data_samples']
    # 500 x 364 px, and the scales' shorter sides.
    sides = np.repeat([512, 512, 512, 640, 768, 896], 2)
    heights = [image.shape[1] for image in images]
    widths = [image.shape[2] for image in images]
    assert heights == sides.tolist()
    assert widths == [int(500 * side / 364 + 0.5) for side in sides]
    assert [sample.flip for sample in samples] == [False, True] * 6
    for straight, flipped in zip(images[::2], images[1::2]):
        assert straight.flip(-1).equal(flipped)


def test_ade20k_metric(ade, ade20k_sample, repo):
    """IoU and accuracy of wrong predictions, against their definitions."""
    metric = METRICS.build(Config.fromfile(repo / ADE).val_evaluator)
    metric.dataset_meta = ade.metainfo
    random = np.random.default_rng(0)
    truth, guesses = [], []
    for i in range(3):
        label = ade[i]['data_samples'].gt_sem_seg.data[0].numpy().astype(int)
        guess = np.where(random.random(label.shape) < 0.3, np.roll(label, 40, 1), label)
        guess[guess == 255] = 7
        truth.append(label.ravel())
        guesses.append(guess.ravel())
        sample = dict(
            pred_sem_seg=dict(data=torch.from_numpy(guess)[None]),
            gt_sem_seg=dict(data=torch.from_numpy(label)[None]),
        )
        metric.process({}, [sample])
    result = metric.evaluate(3)
    truth, guesses = np.concatenate(truth), np.concatenate(guesses)
    guesses, truth = guesses[truth != 255], truth[truth != 255]
    ious, accuracies = [], []
    for c in range(150):
        both = ((truth == c) & (guesses == c)).sum()
        either = ((truth == c) | (guesses == c)).sum()
        if either:
            ious.append(both / either)
        if (truth == c).any():
            accuracies.append(both / (truth == c).sum())
    assert result['aAcc'] == pytest.approx(100 * (truth == guesses).mean(), abs=0.01)
    assert result['mIoU'] == pytest.approx(100 * np.mean(ious), abs=0.01)
    assert result['mAcc'] == pytest.approx(100 * np.mean(accuracies), abs=0.01)
    assert 30 < result['mIoU'] < 90  # so that the comparison says something


@pytest.mark.parametrize(
    ('loader', 'folder', 'count'),
    [
        ('train_dataloader', 'train', 367),
        ('val_dataloader', 'val', 101),
        ('test_dataloader', 'test', 233),
    ],
)
def test_camvid(repo, camvid, loader, folder, count):
    np.random.seed(0)
    cfg = Config.fromfile(repo / CAMVID)[loader].dataset
    cfg.data_root = str(camvid)
    dataset = DATASETS.build(cfg)
    assert len(dataset) == count
    item = dataset[5]
    labels = item['data_samples'].gt_sem_seg.data[0].numpy()
    if folder == 'train':
        assert item['inputs'].shape == (3, 160, 224)
        assert labels.shape == (160, 224)
        assert labels.max() == 11  # void
        return
    assert item['inputs'].shape == (3, 180, 240)
    path = dataset.get_data_info(5)['seg_map_path']
    assert f'/{folder}annot/' in path
    assert (labels == read(path)).all()


def test_camvid_classes(repo, camvid):
    """As in road scenes, the sky is above the buildings, and those above the road."""
    cfg = Config.fromfile(repo / CAMVID).val_dataloader.dataset
    classes = list(cfg.metainfo.classes)
    assert len(classes) == len(cfg.metainfo.palette) == 11
    maps = [read(p) for p in sorted((camvid / 'valannot').iterdir())]
    stack = np.stack(maps)
    rows = np.broadcast_to(np.arange(180)[:, None], stack.shape)
    height = {c: rows[stack == i].mean() for i, c in enumerate(classes)}
    order = sorted(height, key=height.get)
    assert order[0] == 'sky'
    assert order[-1] == 'road'
    assert order[-2] == 'pavement'
    assert height['building'] < height['car'] < height['road']
    assert height['tree'] < height['pedestrian']
