# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
from PIL import Image

from mmcim.datasets import Digits
from mmcim.datasets.digits import _read_digits


@pytest.fixture(scope='module')
def splits():
    return {split: Digits(split=split) for split in ('train', 'val')}


def images_of(dataset):
    return np.stack([dataset[index]['img'] for index in range(len(dataset))])


def test_splits_are_disjoint_and_stratified(splits):
    digits = pytest.importorskip('sklearn.datasets').load_digits()
    assert len(splits['train']) == 1438 and len(splits['val']) == 359
    total = np.bincount(digits.target)
    for split, fraction in (('train', 0.8), ('val', 0.2)):
        counts = np.bincount(splits[split].get_gt_labels())
        assert np.abs(counts - fraction * total).max() <= 0.5
    # Both splits together are the whole dataset.
    both = np.concatenate([images_of(splits['train']), images_of(splits['val'])])
    sums = np.sort(both[:, :, :, 0].sum((1, 2)))
    whole = sorted(splits['train']._enlarge(x)[:, :, 0].sum() for x in digits.images)
    np.testing.assert_array_equal(sums, whole)


def test_images_and_labels(splits):
    sample = splits['train'][0]
    img = sample['img']
    assert img.shape == (32, 32, 3) and img.dtype == np.uint8
    assert (img == img[:, :, :1]).all()
    images = images_of(splits['train'])
    assert images.min() == 0 and images.max() == 255


def test_upscaling_keeps_image(splits):
    digits = pytest.importorskip('sklearn.datasets').load_digits()
    for index in (0, 100, 1000):
        large = splits['train']._enlarge(digits.images[index])[:, :, 0]
        small = np.asarray(Image.fromarray(large).resize((8, 8), Image.BOX))
        assert np.abs(small / 255 * 16 - digits.images[index]).mean() < 0.8


def test_size_argument():
    assert Digits(split='val', size=64)[0]['img'].shape == (64, 64, 3)


def test_split_is_deterministic(splits):
    np.random.seed(123)
    again = Digits(split='val')
    np.testing.assert_array_equal(images_of(again), images_of(splits['val']))


def test_unknown_split_raises():
    with pytest.raises(ValueError, match="'train' or 'val'"):
        Digits(split='test')


def test_matches_scikit_learn():
    digits = pytest.importorskip('sklearn.datasets').load_digits()
    images, labels = _read_digits()
    np.testing.assert_array_equal(images, digits.images)
    np.testing.assert_array_equal(labels, digits.target)
