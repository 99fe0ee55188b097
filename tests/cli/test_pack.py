# Copyright (c) mmcim contributors. All rights reserved.
"""A packed folder serves wherever the folder does."""

import os
from argparse import Namespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmcim.datasets import ImageFolder, inspect_dataset, list_images, read_image
from mmcim.engine import StrictRunner
from mmcim.utils import ConfigError

pytest.importorskip('lmdb')
from mmcim.cli import pack  # noqa: E402

RNG = np.random.default_rng(0)
NAMES = ['a cat/1.png', 'a cat/deep/2.png', 'ä 図/3.png', 'ä 図/%41.png', 'outside.png']


def draw(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
        Image.fromarray(RNG.integers(0, 256, (20, 24, 3), np.uint8)).save(file, 'PNG')


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        draw(tmp_path / 'data/train' / name)
    draw(os.fsencode(tmp_path) + b'/data/train/b/\xff.png')  # not UTF-8
    (tmp_path / 'data/train/aa').mkdir()  # without images; keeps its label
    pack.run(Namespace(folder=str(tmp_path / 'data'), out=tmp_path / 'out/data.lmdb'))
    return tmp_path


def build(root, **kwargs):
    return ImageFolder(data_root=str(root), data_prefix='train', **kwargs)


@pytest.mark.parametrize('by_class', [True, False])
@pytest.mark.parametrize('inner', ['', 'train', 'train/ä 図'])
def test_listing_is_that_of_the_folder(folder, inner, by_class):
    if by_class and inner == 'train/ä 図':
        pytest.skip('has no folders')
    expected = list_images(folder / 'data' / inner, by_class)
    found = list_images(folder / 'out/data.lmdb' / inner, by_class)
    assert (found, found.classes) == (expected, expected.classes)
    for name in found.files:
        image = read_image(folder / 'data' / inner / name)
        packed = read_image(folder / 'out/data.lmdb' / inner / name)
        np.testing.assert_array_equal(packed, image)


@pytest.mark.parametrize('subset', [None, 'train'])
def test_labels_and_split_are_those_of_the_folder(folder, subset):
    files = build(folder / 'data', subset=subset)
    packed = build(folder / 'out/data.lmdb', subset=subset)
    assert packed.metainfo == files.metainfo and len(packed) == len(files)
    assert packed.CLASSES[1] == 'aa'
    assert packed.get_gt_labels().tolist() == files.get_gt_labels().tolist()


def samples(root, num_workers):
    """Of two epochs; this process has read an image before the workers are forked."""
    crop = dict(type='AntialiasedRandomResizedCrop', scale=8)
    pipeline = [dict(type='LoadImage'), crop, dict(type='PackInputs')]
    dataset = build(root, pipeline=pipeline)
    inspect_dataset(dataset, training=False, size=[8, 8])
    loader = dict(
        dataset=dataset,
        batch_size=2,
        num_workers=num_workers,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    loader = StrictRunner.build_dataloader(loader, seed=3)
    return torch.cat([batch['inputs'] for _ in range(2) for batch in loader])


@pytest.mark.parametrize('num_workers', [0, 2])
def test_samples_are_those_of_the_folder(folder, num_workers):
    expected = samples(folder / 'data', 0)
    assert len(expected) == 2 * len(NAMES)  # one is outside, one is not UTF-8
    assert torch.equal(samples(folder / 'out/data.lmdb', num_workers), expected)


def test_missing_image_is_an_error_that_names_it(folder):
    path = folder / 'out/data.lmdb/train/none.png'
    with pytest.raises(ConfigError, match='data.lmdb/train/none.png.*empty or missing'):
        read_image(path)
    with pytest.raises(ConfigError, match='none.lmdb is not a folder'):
        list_images(folder / 'none.lmdb')


def test_folder_of_that_name_is_a_folder(tmp_path):
    draw(tmp_path / 'x.lmdb/1.png')
    assert list_images(tmp_path / 'x.lmdb').files == ['1.png']
    assert read_image(tmp_path / 'x.lmdb/1.png').shape == (20, 24, 3)


def test_nothing_is_written_on_an_error(tmp_path, monkeypatch):
    args = Namespace(folder=str(tmp_path / 'data'), out=tmp_path / 'out/data.lmdb')
    (tmp_path / 'data').mkdir()
    with pytest.raises(ConfigError, match='data has no images'):
        pack.run(args)
    draw(tmp_path / 'data/1.png')
    (tmp_path / 'data/2.png').write_bytes(b'')
    with pytest.raises(ConfigError, match=r'1 of 2 images are unreadable.*2\.png'):
        pack.run(args)
    assert not args.out.parent.exists()
    (tmp_path / 'data/2.png').unlink()
    monkeypatch.setattr(pack, 'LISTING', 600 * 'x')  # longer than a key may be
    with pytest.raises(pack.lmdb.Error):
        pack.run(args)
    assert not list(args.out.parent.iterdir())
