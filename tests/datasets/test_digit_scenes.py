# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest

from mmcim.datasets import Digits, DigitScenes


@pytest.fixture(scope='module')
def scenes():
    return DigitScenes(split='train', size=24, num_scenes=40)


def test_shapes_and_classes(scenes):
    sample = scenes[0]
    assert sample['img'].shape == (48, 48, 3) and sample['img'].dtype == np.uint8
    assert sample['gt_seg_map'].shape == (48, 48)
    assert len(scenes) == 40 and len(scenes.metainfo['classes']) == 11
    present = np.unique([scenes[i]['gt_seg_map'] for i in range(40)])
    np.testing.assert_array_equal(present, np.arange(11))
    assert len(set(map(tuple, scenes.metainfo['palette']))) == 11


def test_labels_cover_the_digits(scenes):
    for index in range(40):
        ink = scenes[index]['img'][:, :, 0]
        np.testing.assert_array_equal(scenes[index]['gt_seg_map'] > 0, ink > 64)


def test_each_digit_has_its_label():
    """A scene's quarter holds a digit of the dataset, moved, with that digit's label."""
    digits = Digits(split='val', size=24)
    images = np.stack([digits[i]['img'][:, :, 0] for i in range(len(digits))])
    labels = digits.get_gt_labels()
    scene = DigitScenes(split='val', size=24, num_scenes=1, seed=3)[0]
    ink, seg = scene['img'][:, :, 0].astype(int), scene['gt_seg_map']
    found = []
    for top in (0, 24):
        for left in (0, 24):
            # Only the middle, 10 px wide, is surely free of the neighbours.
            window = np.s_[top + 7 : top + 17, left + 7 : left + 17]
            errors = {
                (dy, dx): np.abs(
                    images[:, 7 - dy : 17 - dy, 7 - dx : 17 - dx] - ink[window]
                ).sum((1, 2))
                for dy in range(-3, 4)
                for dx in range(-3, 4)
            }
            best = min(errors, key=lambda shift: errors[shift].min())
            assert errors[best].min() == 0
            label = 1 + labels[errors[best].argmin()]
            assert set(np.unique(seg[window])) == {0, label}
            found.append(errors[best].argmin())
    assert len(set(found)) == 4


def test_scenes_depend_on_seed_only(scenes):
    np.random.seed(7)
    again = DigitScenes(split='train', size=24, num_scenes=40)
    other = DigitScenes(split='train', size=24, num_scenes=40, seed=1)
    np.testing.assert_array_equal(again[5]['img'], scenes[5]['img'])
    assert (other[5]['img'] != scenes[5]['img']).any()
