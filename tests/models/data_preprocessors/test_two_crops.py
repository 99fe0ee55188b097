# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

NONE = dict(
    type='StrongAugment', jitter_prob=0, grey_prob=0, blur_prob=0, solarize_prob=0
)
SOLARIZE = {**NONE, 'solarize_prob': 1.0}
MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]


def build(**kwargs):
    config = dict(
        type='TwoCropsDataPreprocessor', mean=MEAN, std=STD, flip_prob=0.0, **kwargs
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


def normal(images):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (images.float() - mean) / std


@pytest.fixture
def crops():
    torch.manual_seed(0)
    return list(torch.randint(256, (2, 4, 3, 8, 8), dtype=torch.uint8))


def test_each_crop_has_own_augmentation(crops):
    preprocessor = build(crop_augments=[NONE, SOLARIZE])
    inputs = preprocessor(dict(inputs=crops), training=True)['inputs']
    torch.testing.assert_close(inputs['images'], normal(crops[0]))
    inverted = torch.where(crops[1] >= 128, 255 - crops[1], crops[1])
    torch.testing.assert_close(inputs['second_crops'], normal(inverted))
    assert inputs.shape == (4, 3, 8, 8)


def test_crops_are_flipped_independently(crops):
    preprocessor = build(crop_augments=[NONE, NONE])
    preprocessor.flip_prob = 0.5
    torch.manual_seed(0)
    flipped = set()
    for _ in range(20):
        inputs = preprocessor(dict(inputs=crops), training=True)['inputs']
        for i in range(4):
            pair = []
            for name, crop in zip(('images', 'second_crops'), crops, strict=True):
                own = normal(crop[i])
                is_flipped = torch.allclose(inputs[name][i], own.flip(-1), atol=1e-5)
                assert is_flipped or torch.allclose(inputs[name][i], own, atol=1e-5)
                pair.append(is_flipped)
            flipped.add(tuple(pair))
    assert len(flipped) == 4


def test_evaluation_uses_one_image(crops):
    inputs = build()(dict(inputs=crops[0]))['inputs']
    torch.testing.assert_close(inputs['images'], normal(crops[0]))
    assert inputs['second_crops'].equal(inputs['images'])


def test_defaults_follow_mocov3():
    first, second = build().crop_augments
    assert (first.blur_prob, first.solarize_prob) == (1.0, 0.0)
    assert (second.blur_prob, second.solarize_prob) == (0.1, 0.2)


@pytest.mark.parametrize('number', [1, 3])
def test_single_crop_raises(crops, number):
    inputs = crops[0] if number == 1 else [crops[0]] * 3
    with pytest.raises(TypeError, match='two crops of each .*MultiView'):
        build()(dict(inputs=inputs), training=True)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match='expected 2, got 1'):
        build(crop_augments=[NONE])
