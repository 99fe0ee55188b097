# Copyright (c) mmcim contributors. All rights reserved.
"""Equality with torchvision and Pillow, and the distribution of the draws."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torchvision.transforms.v2 import functional as tv

from mmcim.models.data_preprocessors import AugmentParams, StrongAugment

OPERATIONS = (
    tv.adjust_brightness,
    tv.adjust_contrast,
    tv.adjust_saturation,
    tv.adjust_hue,
)


@pytest.fixture(scope='module')
def photographs(imagenette_mini):
    """Eight real images, uint8, (8, 3, 224, 224)."""
    paths = sorted((imagenette_mini / 'val').rglob('*.JPEG'))[::50]
    images = [np.array(Image.open(path).convert('RGB')) for path in paths[:8]]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def noise(batch=2, height=20, width=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator)


def params(batch, **changes):
    """Apply only the given operations."""
    nothing = dict(
        factors=torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(batch, 1),
        order=(0, 1, 2, 3),
        grey=torch.zeros(batch, dtype=torch.bool),
        sigma=torch.zeros(batch),
        solarize=torch.zeros(batch, dtype=torch.bool),
    )
    return AugmentParams(**{**nothing, **changes})


def apply(images, **changes):
    return StrongAugment().apply_params(images, params(len(images), **changes))


def test_zero_probabilities_return_input():
    images = noise()
    assert apply(images).equal(images)
    none = StrongAugment(jitter_prob=0, grey_prob=0, blur_prob=0, solarize_prob=0)
    assert none(images).equal(images)
    # Independent of the other images, in any order.
    images[:, :, 0] = 0.0
    images[:, :, 1] = 1.0
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.7, 1.3, 0.8, 0.1]])
    yes = torch.tensor([False, True])
    changes = dict(factors=factors, grey=yes, sigma=yes * 1.5, solarize=yes)
    for order in permutations(range(4)):
        ours = apply(images, order=order, **changes)
        assert ours[0].equal(images[0])
        assert not ours[1].allclose(images[1], atol=0.1)


@pytest.mark.parametrize('operation', range(4))
@pytest.mark.parametrize('factor', [-0.4, 0.3])
def test_operations_match_torchvision(operation, factor):
    images = noise()
    images[0, :, :5] = 0.5  # grey: no hue
    images[0, :, 5:9] = 0.0
    factors = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(2, 1)
    factors[:, operation] += factor
    expected = OPERATIONS[operation](images, factors[0, operation].item())
    # torchvision weighs red by 0.2989 instead of 0.299.
    assert (apply(images, factors=factors) - expected).abs().max() < 2e-4
    assert (apply(images, factors=factors) - images).abs().max() > 0.02


@pytest.mark.parametrize('order', permutations(range(4)))
def test_every_order_with_factors_per_image(order):
    """Against torchvision's operations one after another."""
    images = noise(3, seed=1)
    generator = torch.Generator().manual_seed(2)
    offsets = torch.rand(3, 4, generator=generator) - 0.5
    factors = torch.tensor([1, 1, 1, 0]) + offsets * torch.tensor([0.8, 0.8, 0.8, 0.4])
    ours = apply(images, factors=factors, order=order)
    for image, factor, own in zip(images, factors, ours, strict=True):
        for which in order:
            image = OPERATIONS[which](image, factor[which].item())
        assert (own - image).abs().max() < 1e-3
    backwards = apply(images, factors=factors, order=order[::-1])
    assert not ours.allclose(backwards, atol=1e-2)


def to_pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def levels(ours, pillow):
    """Differences on the scale 0..255."""
    expected = torch.from_numpy(np.array(pillow).astype(np.float32))
    if expected.ndim == 2:
        expected = expected[..., None].expand(-1, -1, 3)
    return (255 * ours - expected.permute(2, 0, 1)).abs()


def test_photographs_match_pillow_within_rounding(photographs):
    """Pillow rounds to whole levels, and the mean grey as well."""
    images = photographs.float() / 255
    batch = len(images)
    cases = [
        (0, 0.7, lambda x: ImageEnhance.Brightness(x).enhance(0.7), 1.0),
        (1, 1.35, lambda x: ImageEnhance.Contrast(x).enhance(1.35), 1.3),
        (2, 0.8, lambda x: ImageEnhance.Color(x).enhance(0.8), 1.0),
        # Pillow's hue has 256 levels and its saturation, too.
        (3, 0.08, lambda x: tv.adjust_hue(x, 0.08), 10.0),
    ]
    for which, factor, reference, tolerance in cases:
        factors = torch.tensor([[1.0, 1.0, 1.0, 0.0]]).repeat(batch, 1)
        factors[:, which] = factor
        ours = apply(images, factors=factors)
        for own, image in zip(ours, photographs, strict=True):
            difference = levels(own, reference(to_pillow(image)))
            assert difference.max() <= tolerance + 0.01, which
            assert difference.mean() < 1.0, which

    grey = apply(images, grey=torch.ones(batch, dtype=torch.bool))
    solarized = apply(images, solarize=torch.ones(batch, dtype=torch.bool))
    for i, image in enumerate(photographs):
        assert levels(grey[i], ImageOps.grayscale(to_pillow(image))).max() <= 0.51
        assert levels(solarized[i], ImageOps.solarize(to_pillow(image))).max() < 1e-3


@pytest.mark.parametrize('sigma', [0.4, 1.0, 2.0])
def test_blur_matches_torchvision(photographs, sigma):
    images = photographs[:2].float() / 255
    ours = apply(images, sigma=torch.full((2,), sigma))
    # torchvision mirrors at the border; a broad kernel is exact inside.
    radius = 16
    expected = tv.gaussian_blur(images, [2 * radius + 1] * 2, [sigma] * 2)
    inner = (..., slice(radius, -radius), slice(radius, -radius))
    torch.testing.assert_close(ours[inner], expected[inner], atol=2e-6, rtol=0)
    # Including the border, with explicit padding.
    padded = torch.nn.functional.pad(images, [radius] * 4, mode='replicate')
    expected = tv.gaussian_blur(padded, [2 * radius + 1] * 2, [sigma] * 2)
    torch.testing.assert_close(ours, expected[inner], atol=1e-4, rtol=0)
    # Pillow approximates the Gaussian by three box filters.
    for own, image in zip(ours, photographs, strict=False):
        pillow = to_pillow(image).filter(ImageFilter.GaussianBlur(sigma))
        assert levels(own, pillow).mean() < 2.0


def test_only_selected_images_are_blurred():
    images = noise(3)
    ours = apply(images, sigma=torch.tensor([0.0, 2.0, 0.0]))
    assert ours[0].equal(images[0]) and ours[2].equal(images[2])
    assert ours[1].std() < 0.5 * images[1].std()


def test_operations_are_applied_in_sequence():
    """Jitter, then grey, then blur, then solarisation."""
    images = noise(1)
    yes = torch.ones(1, dtype=torch.bool)
    factors = torch.tensor([[1.2, 0.7, 1.0, 0.0]])
    at_once = apply(
        images, factors=factors, grey=yes, sigma=torch.tensor([1.5]), solarize=yes
    )
    steps = apply(images, factors=factors)
    steps = apply(steps, grey=yes)
    steps = apply(steps, sigma=torch.tensor([1.5]))
    assert at_once.equal(apply(steps, solarize=yes))
    swapped = apply(apply(images, solarize=yes), factors=factors, grey=yes)
    assert not at_once.allclose(swapped, atol=0.05)


def test_distribution_of_draws():
    count = 40_000
    augment = StrongAugment()
    torch.manual_seed(0)
    drawn = augment.draw(count, torch.device('cpu'))

    def close(fraction, expected):  # five standard deviations of a binomial
        return abs(fraction - expected) < 5 * (expected * (1 - expected) / count) ** 0.5

    nothing = torch.tensor([1.0, 1.0, 1.0, 0.0])
    jittered = (drawn.factors != nothing).all(dim=1)
    assert ((drawn.factors == nothing).all(dim=1) | jittered).all()
    assert close(jittered.float().mean(), 0.8)
    factors = drawn.factors[jittered]
    for column, low, high in zip(
        factors.T, (0.6, 0.6, 0.8, -0.1), (1.4, 1.4, 1.2, 0.1), strict=True
    ):
        assert low <= column.min() < low + 1e-3 and high - 1e-3 < column.max() <= high
        assert (
            abs(column.mean() - (low + high) / 2)
            < 5 * (high - low) / (12 * len(column)) ** 0.5
        )
    assert close(drawn.grey.float().mean(), 0.2)
    assert close(drawn.solarize.float().mean(), 0.2)
    blurred = drawn.sigma[drawn.sigma > 0]
    assert close(len(blurred) / count, 0.1)
    assert blurred.min() >= 0.1 and blurred.max() <= 2.0
    assert abs(blurred.mean() - 1.05) < 5 * 1.9 / (12 * len(blurred)) ** 0.5


def test_all_orders_are_equally_likely():
    augment, count = StrongAugment(), 4800
    torch.manual_seed(0)
    device = torch.device('cpu')
    counts = Counter(augment.draw(1, device).order for _ in range(count))
    assert set(counts) == set(permutations(range(4)))
    # Five standard deviations of a binomial.
    bound = 5 * (count * 1 / 24 * 23 / 24) ** 0.5
    assert all(abs(n - count / 24) < bound for n in counts.values())


def test_factors_are_non_negative():
    augment = StrongAugment(brightness=1.5, jitter_prob=1.0)
    factors = augment.draw(5000, torch.device('cpu')).factors[:, 0]
    assert 0 <= factors.min() < 0.01 and 2.4 < factors.max() <= 2.5


def test_output_is_in_range_and_repeatable():
    augment = MODELS.build(dict(type='StrongAugment', jitter_prob=1.0, blur_prob=0.5))
    images = noise(64, 16, 16)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(augment(images))
    assert outputs[0].equal(outputs[1]) and not outputs[0].equal(outputs[2])
    assert outputs[0].min() >= 0 and outputs[0].max() <= 1
    assert augment.state_dict() == {}
    changed = (outputs[0] - images).abs().amax(dim=(1, 2, 3)) > 0.01
    assert changed.float().mean() > 0.9


def test_autocast_changes_nothing():
    changes = dict(
        factors=torch.tensor([[1.2, 0.7, 1.1, 0.05]]), sigma=torch.tensor([1.0])
    )
    images = noise(1)
    expected = apply(images, **changes)
    with torch.autocast('cpu', torch.bfloat16):
        assert apply(images, **changes).equal(expected)


@pytest.mark.parametrize(
    'wrong',
    [
        dict(brightness=-0.1),
        dict(hue=0.6),
    ],
)
def test_invalid_arguments_raise(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        StrongAugment(**wrong)
