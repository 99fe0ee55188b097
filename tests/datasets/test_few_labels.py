# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS
from PIL import Image

from mmcim.datasets import Digits, few_labels


@pytest.fixture(scope='module')
def digits():
    """359 digits of 10 classes."""
    return Digits(split='val')


@pytest.fixture
def folder(tmp_path):
    """100 images of ape, 31 of bee, 2 of cat."""
    for name, count in (('ape', 100), ('bee', 31), ('cat', 2)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new('RGB', (2, 2)).save(tmp_path / name / f'{i:03}.png')
    return tmp_path


def build(**kwargs):
    dataset = dict(type='Digits', split='val')
    return DATASETS.build(dict(type='FewLabels', dataset=dataset, **kwargs))


def images(dataset):
    infos = map(dataset.get_data_info, range(len(dataset)))
    return {(info['img'].tobytes(), info['gt_label']) for info in infos}


def paths(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def test_num_per_class(digits):
    few = build(num_per_class=5, seed=1)
    assert len(few) == 50
    np.testing.assert_array_equal(np.bincount(few.get_gt_labels()), 5)
    chosen = images(few)
    assert len(chosen) == 50 and chosen <= images(digits)
    assert few.metainfo['classes'] == tuple('0123456789')


def test_default_keeps_all_images(digits):
    assert len(build()) == len(digits) == 359
    assert images(build()) == images(digits)


def test_subset_depends_on_seed():
    sets = [
        images(build(**kwargs))
        for kwargs in (
            dict(num_per_class=3, seed=0),
            dict(num_per_class=3, seed=0),
            dict(num_per_class=3, seed=1),
            dict(num_per_class=9, seed=0),
            dict(fraction=0.5, seed=0),
        )
    ]
    assert sets[0] == sets[1] != sets[2]
    assert sets[0] < sets[3] < sets[4]


@pytest.mark.parametrize(
    'fraction, counts', [(1.0, [100, 31, 2]), (0.1, [10, 3, 1]), (0.01, [1, 1, 1])]
)
def test_fraction_is_taken_per_class(folder, fraction, counts):
    few = few_labels(CustomDataset(data_root=str(folder)), fraction=fraction)
    np.testing.assert_array_equal(np.bincount(few.get_gt_labels()), counts)
    assert paths(few) == sorted(paths(few)), 'the order is kept'


def test_annotation_list(folder):
    """The standard 1 % and 10 % of ImageNet are lists for CustomDataset."""
    listed = ['bee/003.png 1', 'ape/097.png 0', 'ape/001.png 0']
    (folder / 'list.txt').write_text('\n'.join(listed))
    dataset = CustomDataset(data_root=str(folder), ann_file='list.txt')
    whole = few_labels(dataset)
    assert [p.removeprefix(f'{folder}/') for p in paths(whole)] == [
        line.split()[0] for line in listed
    ]
    np.testing.assert_array_equal(whole.get_gt_labels(), [1, 0, 0])
    np.testing.assert_array_equal(
        few_labels(dataset, num_per_class=1).get_gt_labels(), [1, 0]
    )


def test_too_few_images_raise(digits):
    with pytest.raises(ValueError, match="Class '2' has only 35 of 36 images"):
        few_labels(digits, num_per_class=36)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(num_per_class=0), 'num_per_class=0, .* the number at least 1'),
        (dict(fraction=0.0), 'fraction=0.0 must be above 0 and at most 1'),
        (dict(fraction=10), 'fraction=10 must be above 0 and at most 1'),
        (
            dict(fraction=0.1, num_per_class=5),
            'num_per_class=5, fraction=0.1: set one',
        ),
    ],
)
def test_invalid_arguments_raise(digits, kwargs, message):
    with pytest.raises(ValueError, match=message):
        few_labels(digits, **kwargs)


def test_unlabeled_dataset_raises(folder):
    dataset = CustomDataset(data_root=str(folder), with_label=False)
    with pytest.raises(ValueError, match='CustomDataset has no labels'):
        few_labels(dataset, num_per_class=1)


def test_custom_dataset(imagenette_mini):
    few = DATASETS.build(
        dict(
            type='FewLabels',
            num_per_class=2,
            dataset=dict(
                type='CustomDataset',
                data_root=str(imagenette_mini),
                data_prefix='val',
                pipeline=[dict(type='LoadImage')],
            ),
        )
    )
    np.testing.assert_array_equal(np.bincount(few.get_gt_labels()), [2] * 10)
    for index in range(20):
        sample = few[index]
        assert few.CLASSES[sample['gt_label']] in sample['img_path']
        assert sample['img'].shape == (224, 224, 3)
