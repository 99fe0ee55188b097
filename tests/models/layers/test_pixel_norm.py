# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch

from mmcim.models.layers import PatchNorm, SlidingWindowNorm


def brute_force(images, k, eps=1e-6):
    """Normalise each pixel by a loop over pixels, in float64."""
    images = images.double()
    out = torch.empty_like(images)
    _, _, H, W = images.shape
    before, after = (k - 1) // 2, k // 2
    for y in range(H):
        for x in range(W):
            window = images[
                :,
                :,
                max(0, y - before) : y + after + 1,
                max(0, x - before) : x + after + 1,
            ].flatten(2)
            mean, var = window.mean(dim=2), window.var(dim=2)  # unbiased
            out[:, :, y, x] = (images[:, :, y, x] - mean) / (var + eps).sqrt()
    return out


@pytest.mark.parametrize('window', [3, 4, 8, 9, 47])
def test_sliding_window_norm_matches_loop_over_pixels(window):
    torch.manual_seed(0)
    images = torch.randn(2, 3, 17, 12) * 2 + 5
    result = SlidingWindowNorm(window)(images)
    expected = brute_force(images, window)
    torch.testing.assert_close(result.double(), expected, rtol=1e-4, atol=1e-4)


def test_window_of_8_covers_3_before_and_4_after():
    images = torch.zeros(1, 1, 20, 20)
    images[0, 0, 10, 10] = 1
    touched = SlidingWindowNorm(8)(images)[0, 0].abs() > 1e-3
    rows = touched.any(dim=1).nonzero().flatten()
    # pixel 10 lies in the windows that are centred on 6 (6 + 4) to 13 (13 - 3)
    assert rows.min() == 6 and rows.max() == 13


def test_constant_image_is_normalized_to_zero():
    out = SlidingWindowNorm(8)(torch.full((1, 3, 16, 16), 2.1179))
    torch.testing.assert_close(out, torch.zeros_like(out), atol=1e-3, rtol=0)


def test_faint_texture_on_bright_image_is_precise():
    """Noise of 0.001 on 2.6: differences of squares would cancel."""
    torch.manual_seed(0)
    images = 2.6 + 1e-3 * torch.randn(1, 3, 17, 12)
    result = SlidingWindowNorm(8)(images).double()
    torch.testing.assert_close(result, brute_force(images, 8), rtol=1e-3, atol=1e-3)


def test_patch_norm_matches_mae():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 48)
    result = PatchNorm(16)(images)
    for b in range(2):
        for i in range(2):
            for j in range(3):
                at = (
                    b,
                    slice(None),
                    slice(16 * i, 16 * i + 16),
                    slice(16 * j, 16 * j + 16),
                )
                patch = images[at]
                expected = (patch - patch.mean()) / (patch.var() + 1e-6) ** 0.5
                torch.testing.assert_close(result[at], expected)


@pytest.mark.parametrize('norm', [SlidingWindowNorm(8), PatchNorm(16)])
def test_invert_undoes_normalization(norm):
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        norm.invert(norm(images), images), images, atol=1e-5, rtol=1e-5
    )
