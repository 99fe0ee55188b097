# Copyright (c) mmcim contributors. All rights reserved.
"""Fine-tuning's augmentation against mmpretrain's."""

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS

from mmcim.datasets.augmentation import FastRandAugment

NAMES = ['AutoContrast', 'Equalize', 'Contrast']
RAND_AUGMENT = dict(num_policies=2, magnitude_level=9, policies='timm_increasing')
RAND_AUGMENT['hparams'] = dict(pad_val=[104, 116, 124], interpolation='bicubic')
ERASING = dict(erase_prob=1.0, mode='rand', min_area_ratio=0.3)
ERASING |= dict(fill_color=[60.0, 120.0, 180.0], fill_std=[10.0, 20.0, 30.0])


@pytest.fixture(scope='module')
def images():
    """Noise, one colour, a small range; with channels apart, as crops; flipped."""
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (40, 52, 3)) * np.linspace(0.2, 1, 52)[:, None]
    flat = np.full((9, 7, 3), 130)
    narrow = draw.integers(90, 99, (24, 24, 3))
    images = [x.astype(np.uint8) for x in (noise, flat, narrow)]
    apart = [x.transpose(2, 0, 1).copy().transpose(1, 2, 0) for x in images]
    return [*images, *apart, *(x[:, ::-1] for x in (*images, *apart))]


@pytest.mark.parametrize(
    'settings',
    [
        dict(prob=0.4),
        dict(prob=0.6, direction=['horizontal', 'vertical']),
        dict(prob=[0.2, 0.5], direction=['horizontal', 'diagonal']),
    ],
)
def test_flip_draws_as_mmcv(images, settings):
    for seed in range(40):
        expected, found = (
            build_and_run(dict(settings, type=kind), images[0], seed)
            for kind in ('RandomFlip', 'FastRandomFlip')
        )
        assert (found == expected).all()


@pytest.mark.parametrize('name', NAMES)
def test_operations_equal_mmpretrains(images, name):
    settings = dict(magnitude_range=(0, 0.9)) if name == 'Contrast' else {}
    for seed in range(20):
        for image in images:
            expected, found = (
                build_and_run(dict(type=kind, prob=1, **settings), image, seed)
                for kind in (name, f'Fast{name}')
            )
            assert (found == expected).all()


def test_contrast_of_a_given_magnitude(images):
    """`img * factor + grey * (1 - factor)`, clipped and cut to integers."""
    config = dict(type='FastContrast', prob=1, magnitude=0.5, random_negative_prob=0)
    image = images[0]
    grey = round(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).mean())
    expected = np.clip(1.5 * image - 0.5 * grey, 0, 255).astype(np.uint8)
    assert (build_and_run(config, image, 0) == expected).all()


def test_rand_augment_draws_as_mmpretrain(images):
    """Two of fifteen operations, with equal results for equal random numbers."""
    ours = FastRandAugment(**RAND_AUGMENT)
    kinds = [type(t).__name__ for t in ours]
    assert {f'Fast{name}' for name in NAMES} < {*kinds} and len(kinds) == 15
    for seed in range(120):
        image = images[seed % len(images)]
        expected, found = (
            build_and_run(dict(RAND_AUGMENT, type=kind), image, seed)
            for kind in ('RandAugment', 'FastRandAugment')
        )
        assert (found == expected).all()


def test_rand_augment_of_given_policies():
    policies = [dict(type='Equalize'), dict(type='Invert')]
    ours = FastRandAugment(**{**RAND_AUGMENT, 'policies': policies})
    assert [type(t).__name__ for t in ours] == ['FastEqualize', 'Invert']


def test_rand_augment_leaves_channels_apart(images):
    """Otherwise to pack an image takes as long as an operation."""
    augmented = build_and_run(dict(RAND_AUGMENT, type='FastRandAugment'), images[0], 0)
    assert augmented.transpose(2, 0, 1).flags.c_contiguous


def test_erasing_fills_with_normal_noise():
    torch.manual_seed(0)
    config = dict(ERASING, type='FastRandomErasing')
    image = build_and_run(config, np.full((200, 200, 3), 255, np.uint8), 0)
    noise = image[(image != 255).all(-1)]  # (N, 3)
    assert 0.02 * 200**2 < len(noise) < 200**2
    assert np.allclose(noise.mean(0), [59.5, 119.5, 179.5], atol=1)
    assert np.allclose(noise.std(0), [10, 20, 30], atol=1)


@pytest.mark.parametrize('settings', [dict(mode='const'), dict(fill_std=None)])
def test_erasing_without_normal_noise_is_mmpretrains(settings):
    image = np.zeros((50, 60, 3), np.uint8)
    expected, found = (
        build_and_run({**ERASING, **settings, 'type': kind}, image.copy(), 1)
        for kind in ('RandomErasing', 'FastRandomErasing')
    )
    assert (found == expected).all() and found.any()


def test_erasing_takes_the_rectangles_of_mmpretrain():
    image = np.full((50, 60, 3), 255, np.uint8)
    expected, found = (
        build_and_run({**ERASING, 'fill_std': [1.0] * 3, 'type': kind}, image.copy(), 3)
        for kind in ('RandomErasing', 'FastRandomErasing')
    )
    assert ((expected == 255) == (found == 255)).all()


def build_and_run(config: dict, image: np.ndarray, seed: int) -> np.ndarray:
    """Build a transform, and run it on an image, whose strides stay as they are."""
    transform = TRANSFORMS.build(config)
    np.random.seed(seed)
    return transform(dict(img=image))['img']
