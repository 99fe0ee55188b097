# Copyright (c) mmcim contributors. All rights reserved.
"""Resizing as Pillow does it; LoadImage has tests of its own."""

import pickle

import numpy as np
import pytest
from mmpretrain.datasets import RandomResizedCrop, ResizeEdge
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmcim.datasets.image_files import read_image
from mmcim.datasets.transforms import resize_image

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def photographs(imagenette_mini):
    paths = sorted((imagenette_mini / 'val').rglob('*.JPEG'))[::20]
    return [read_image(path) for path in paths]


def by_pillow(image, size, mode):
    """Width first: Pillow 13 takes the height first where that is less work."""
    kind, (height, width) = Image.Resampling[mode.upper()], size
    wide = Image.fromarray(image).resize((width, image.shape[0]), kind)
    return np.asarray(wide.resize((width, height), kind))


def differences(found, expected):
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert found.flags.writeable
    return np.abs(found.astype(int) - expected)


@pytest.mark.parametrize('mode', ['bicubic', 'bilinear'])
@pytest.mark.parametrize(
    'size',
    [(448, 448), (300, 260), (224, 224), (200, 190), (96, 128), (32, 32), (7, 500)],
)
def test_photographs_match_pillow_within_rounding(photographs, mode, size):
    """Both round and clip after each of two passes."""
    means = []
    for image in photographs:
        difference = differences(
            resize_image(image, size, mode), by_pillow(image, size, mode)
        )
        assert difference.max() <= 2
        means.append(difference.mean())
    assert np.mean(means) < 0.02


@pytest.mark.parametrize('name', ['RandomResizedCrop', 'ResizeEdge'])
def test_transforms_match_mmpretrain_with_pillow(photographs, name):
    """The same random crops; Pillow may shrink the height of one before its width."""
    theirs = dict(RandomResizedCrop=RandomResizedCrop, ResizeEdge=ResizeEdge)[name]
    reference = theirs(scale=96, interpolation='bicubic', backend='pillow')
    config = dict(type=f'Antialiased{name}', scale=96, interpolation='bicubic')
    transform = pickle.loads(pickle.dumps(TRANSFORMS.build(config)))
    for seed, image in enumerate(photographs):
        image = image[: 100 + 2 * seed]  # wider than high
        results = []
        for step in (transform, reference):
            np.random.seed(seed)
            results.append(step(dict(img=image, img_shape=image.shape[:2])))
        found, expected = results
        difference = differences(found.pop('img'), expected.pop('img'))
        assert difference.max() <= 10 and difference.mean() < 0.4
        expected['img_shape'] = expected['img_shape'][:2]
        assert found == expected


@pytest.mark.parametrize(
    'shape', [(1, 1, 3), (1, 50, 3), (3, 2, 3), (40, 30), (40, 30, 1), (40, 30, 4)]
)
def test_other_shapes(shape):
    """Tiny images, grey ones and ones with alpha, and crops of larger ones."""
    large = RNG.integers(0, 256, (60, 70, *shape[2:]), np.uint8)
    image = large[5 : 5 + shape[0], 10 : 10 + shape[1]]
    channels = np.atleast_3d(image).transpose(2, 0, 1)
    expected = [by_pillow(channel, (24, 32), 'bicubic') for channel in channels]
    expected = np.stack(expected, axis=-1).reshape(24, 32, *shape[2:])
    assert differences(resize_image(image, (24, 32)), expected).max() <= 2


def test_noise_is_antialiased():
    """Of black and white noise, a reduction by 8 leaves little."""
    noise = 255 * RNG.integers(0, 2, (256, 256, 3), np.uint8)
    assert resize_image(noise, (32, 32), 'bilinear').std() < 20


def test_flipped_images_are_resized():
    """mmcv's flip gives a view that is read backwards."""
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    flipped = resize_image(image[:, ::-1], (20, 15))
    assert (flipped == resize_image(image[:, ::-1].copy(), (20, 15))).all()
