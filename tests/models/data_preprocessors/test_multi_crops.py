# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmcim.models.data_preprocessors import TwoCropsDataPreprocessor, crop_regions

from .test_two_crops import MEAN, NONE, SOLARIZE, STD, normal


def build(**kwargs):
    config = dict(
        type='MultiCropDataPreprocessor',
        mean=MEAN,
        std=STD,
        crop_augments=[NONE, SOLARIZE],
        local_augment=NONE,
        num_per_crop=3,
        local_size=8,
        flip_prob=0.0,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build({**config, **kwargs})


@pytest.fixture
def crops():
    torch.manual_seed(0)
    return list(torch.randint(256, (2, 4, 3, 24, 24), dtype=torch.uint8))


def test_local_crops_are_cut_from_crops_before_augmentation(crops):
    preprocessor = build()
    torch.manual_seed(1)
    inputs = preprocessor(dict(inputs=crops), training=True)['inputs']
    assert inputs['local_crops'].shape == (4, 6, 3, 8, 8)
    torch.testing.assert_close(inputs['images'], normal(crops[0]))
    # The global crops come first; half of the local ones are of each.
    torch.manual_seed(1)
    TwoCropsDataPreprocessor.make_inputs(preprocessor, crops, training=True)
    for i, crop in enumerate(crops):
        regions = preprocessor.local_crops.draw(4, (24, 24), crop.device)
        cut = crop_regions(crop.float() / 255, regions, 8) * 255
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
        expected = (cut - mean) / std
        torch.testing.assert_close(inputs['local_crops'][:, 3 * i : 3 * i + 3], expected)


def test_local_crops_are_upright_boxes_of_the_given_area():
    sampling = build(local_scale=(0.1, 0.4)).local_crops
    torch.manual_seed(0)
    regions = sampling.draw(2000, (100, 100), torch.device('cpu'))
    assert not regions.angle.any()
    area = regions.sides.prod(dim=-1) / 100**2
    assert 0.099 < area.min() < 0.11 and 0.39 < area.max() < 0.401
    assert area.mean().item() == pytest.approx(0.25, abs=0.01)
    ratio = regions.sides[..., 0] / regions.sides[..., 1]
    assert 0.749 < ratio.min() < 0.76 and 1.32 < ratio.max() < 1.334
    low, high = regions.center - regions.sides / 2, regions.center + regions.sides / 2
    assert low.min() > -1e-3 and high.max() < 100.001


def test_local_crops_are_flipped_on_their_own(crops):
    plain, flipped = build(), build(flip_prob=0.5)
    pair = []
    for preprocessor in (plain, flipped):
        # The same boxes: the flips of the global crops draw first.
        preprocessor.flip = lambda images, training: images
        torch.manual_seed(2)
        data = preprocessor(dict(inputs=crops), training=True)
        pair.append(data['inputs']['local_crops'].flatten(0, 1))
    kinds = [(a.equal(b), a.flip(-1).equal(b)) for a, b in zip(*pair, strict=True)]
    assert set(kinds) == {(True, False), (False, True)}


def test_augmentations_are_dinos():
    preprocessor = build(local_augment=SOLARIZE)
    assert preprocessor.local_augment.solarize_prob == 1.0
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        preprocessor = MODELS.build(dict(type='MultiCropDataPreprocessor'))
    augments = [*preprocessor.crop_augments, preprocessor.local_augment]
    assert [(a.blur_prob, a.solarize_prob) for a in augments] == [
        (1.0, 0.0), (0.1, 0.2), (0.5, 0.0)
    ]  # fmt: skip


def test_evaluation_takes_one_image(crops):
    inputs = build()(dict(inputs=crops[0]))['inputs']
    assert inputs['second_crops'].equal(inputs['images'])
    assert inputs['local_crops'].shape == (4, 6, 3, 8, 8)
