# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmcim.datasets.transforms import RandomResizedCropTwoSizes


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pillow(crop, size, kind):
    return np.asarray(Image.fromarray(crop).resize(size, kind))


class TestRandomResizedCropTwoSizes:
    @pytest.mark.parametrize('seed', range(3))
    def test_crops_match_pillow(self, seed):
        img = noise(375, 500)
        transform = TRANSFORMS.build(dict(type='RandomResizedCropTwoSizes'))
        np.random.seed(seed)
        top, left, height, width = transform.rand_crop_params(img)
        np.random.seed(seed)
        results = transform(dict(img=img))
        crop = img[top : top + height, left : left + width]
        first, second = results['img']
        np.testing.assert_array_equal(first, pillow(crop, (224, 224), Image.BICUBIC))
        np.testing.assert_array_equal(second, pillow(crop, (112, 112), Image.LANCZOS))
        assert results['img_shape'] == (224, 224)

    def test_sizes_are_height_and_width(self):
        transform = RandomResizedCropTwoSizes((32, 48), (16, 24))
        first, second = transform(dict(img=noise(64, 64)))['img']
        assert first.shape == (32, 48, 3) and second.shape == (16, 24, 3)

    def test_resizing_is_antialiased(self):
        # Averaging over 4x4 uniform pixels leaves a fourth of the deviation of 73.9.
        transform = RandomResizedCropTwoSizes(112, 56, crop_ratio_range=(1, 1))
        img = noise(224, 224)
        _, second = transform(dict(img=img))['img']
        assert second.std() < 25

    def test_crops_reach_all_borders(self):
        transform = RandomResizedCropTwoSizes(
            8, 4, crop_ratio_range=(0.3, 1.0), aspect_ratio_range=(1, 1)
        )
        img = np.zeros((6, 6, 3), np.uint8)
        np.random.seed(0)
        boxes = {transform.rand_crop_params(img) for _ in range(500)}
        assert (0, 0, 6, 6) in boxes
        assert max(top + height for top, _, height, _ in boxes) == 6
        assert max(left + width for _, left, _, width in boxes) == 6


def test_single_crop_is_antialiased():
    """The single crop uses Pillow's bicubic filter as well."""
    transform = TRANSFORMS.build(
        dict(
            type='RandomResizedCrop',
            scale=112,
            interpolation='bicubic',
            backend='pillow',
        )
    )
    img = noise(448, 448)
    np.random.seed(0)
    top, left, height, width = transform.rand_crop_params(img)
    np.random.seed(0)
    crop = img[top : top + height, left : left + width]
    np.testing.assert_array_equal(
        transform(dict(img=img))['img'], pillow(crop, (112, 112), Image.BICUBIC)
    )
