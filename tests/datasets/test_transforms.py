# Copyright (c) mmcim contributors. All rights reserved.
import math

import numpy as np
import pytest
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from mmcim.datasets.transforms import (
    BEiTBlockMask,
    RandomAffine,
    RandomResizedCropTwoSizes,
)


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


class TestRandomAffine:
    def test_random_affine_defaults_to_identity(self):
        img = noise(17, 23)
        np.testing.assert_array_equal(RandomAffine()(dict(img=img))['img'], img)

    def test_affine_matrix_factors(self, monkeypatch):
        transform = RandomAffine(degrees=20, translate=0.1, scale=(0.5, 2), shear=10)
        draws = iter([np.array([0.5, 0.3, -0.2, 1.0]), 1.5])
        monkeypatch.setattr(np.random, 'uniform', lambda *args: next(draws))
        matrix = transform.random_matrix(height=40, width=60)

        angle, slant = math.radians(10), math.radians(10)
        rotation = np.array(
            [
                [math.cos(angle), -math.sin(angle)],
                [math.sin(angle), math.cos(angle)],
            ]
        )
        shear = np.array([[1, math.tan(slant)], [0, 1]])
        np.testing.assert_allclose(matrix[:, :2], 1.5 * rotation @ shear)
        centre = np.array([29.5, 19.5])
        moved = centre + [0.1 * 0.3 * 60, 0.1 * -0.2 * 40]
        np.testing.assert_allclose(matrix @ [*centre, 1], moved)

    def test_translation_by_whole_pixels(self, monkeypatch):
        img = noise(20, 20)
        transform = RandomAffine(translate=0.25, fill=9)
        draws = iter([np.array([0.0, 0.4, -0.2, 0.0]), 1.0])
        monkeypatch.setattr(np.random, 'uniform', lambda *args: next(draws))
        moved = transform(dict(img=img))['img']
        # 2 pixels to the right, 1 upwards
        expected = np.full_like(img, 9)
        expected[:-1, 2:] = img[1:, :-2]
        np.testing.assert_array_equal(moved, expected)

    def test_affine_parameters_stay_in_range(self):
        transform = RandomAffine(degrees=15, translate=0.1, scale=(0.8, 1.2))
        np.random.seed(0)
        matrices = [transform.random_matrix(32, 32) for _ in range(2000)]
        angles = [math.degrees(math.atan2(m[1, 0], m[0, 0])) for m in matrices]
        scales = [math.sqrt(np.linalg.det(m[:, :2])) for m in matrices]
        shifts = np.array([m @ [15.5, 15.5, 1] - 15.5 for m in matrices])
        assert -15 <= min(angles) < -14.5 and 14.5 < max(angles) <= 15
        assert 0.8 <= min(scales) < 0.81 and 1.19 < max(scales) <= 1.2
        assert 3.1 < np.abs(shifts).max() <= 3.2

    def test_affine_keeps_size_and_dtype(self):
        transform = RandomAffine(degrees=30, shear=10)
        for img in (noise(24, 36), noise(24, 36)[:, :, 0]):
            out = transform(dict(img=img))['img']
            assert out.shape == img.shape and out.dtype == np.uint8

    def test_invalid_scale_raises(self):
        with pytest.raises(ValueError, match='0 < min <= max'):
            RandomAffine(scale=(1.2, 0.8))


class TestBEiTBlockMask:
    def masks(self, kind, num=400):
        transform = TRANSFORMS.build(
            dict(
                type=kind,
                input_size=(14, 14),
                num_masking_patches=75,
                min_num_patches=16,
            )
        )
        np.random.seed(0)
        return np.stack([transform({})['mask'] for _ in range(num)])

    def test_block_mask_count_and_values(self):
        masks = self.masks('BEiTBlockMask')
        assert masks.shape == (400, 14, 14)
        assert set(np.unique(masks)) == {0, 1}
        np.testing.assert_array_equal(masks.sum((1, 2)), 75)

    def test_every_position_can_be_masked(self):
        frequency = self.masks('BEiTBlockMask').mean(0)
        assert frequency.min() > 0
        # Opposite borders are treated equally.
        assert abs(frequency[0].mean() - frequency[-1].mean()) < 0.05
        assert abs(frequency[:, 0].mean() - frequency[:, -1].mean()) < 0.05

    def test_mmpretrain_never_masks_last_row_and_column(self):
        frequency = self.masks('BEiTMaskGenerator').mean(0)
        assert frequency[-1].max() == frequency[:, -1].max() == 0

    def test_block_is_a_rectangle(self):
        transform = BEiTBlockMask(14, num_masking_patches=40, min_num_patches=16)
        np.random.seed(1)
        for _ in range(50):
            mask = np.zeros((14, 14), int)
            new = transform._mask(mask, 40)
            rows, columns = np.nonzero(mask)
            area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert mask.sum() == new == area <= 40
