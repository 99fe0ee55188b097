# Copyright (c) mmcim contributors. All rights reserved.
"""What tokens explain of normalised pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmcim.models.layers import SlidingWindowNorm
from mmcim.models.tokenizers import explained_by_tokens


class Shrinking:
    """Its tokens are the images themselves, smaller by a factor."""

    def __init__(self, factor):
        self.factor = factor

    def encode(self, images):
        return F.avg_pool2d(images, self.factor)

    def decode(self, ids):
        return F.interpolate(ids, scale_factor=self.factor, mode='nearest')


def test_tokens_that_hold_all_explain_all():
    images = torch.rand(2, 3, 16, 16)
    found = explained_by_tokens(Shrinking(1), images, 16, [SlidingWindowNorm(8)])
    assert found == [pytest.approx(1.0)]


def test_it_is_the_squared_correlation_of_normalised_pixels():
    images, norm = torch.rand(4, 3, 16, 16), SlidingWindowNorm(4)
    tokenizer = Shrinking(2)
    target = norm(images).numpy().ravel().astype(float)
    found = norm(tokenizer.decode(tokenizer.encode(images))).numpy().ravel().astype(float)
    scale = (target @ found) / (found @ found)  # the best
    residual = target - scale * found
    expected = 1 - (residual @ residual) / (target @ target)
    [r2] = explained_by_tokens(tokenizer, images, 16, [norm])
    assert r2 == pytest.approx(expected)


def test_larger_windows_ask_for_less_detail():
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.random((8, 3, 4, 4), np.float32))
    images = F.interpolate(coarse, 32, mode='bilinear') + 0.2 * torch.rand(8, 3, 32, 32)
    norms = [SlidingWindowNorm(window) for window in (4, 8, 16, 32)]
    explained = explained_by_tokens(Shrinking(4), images, 32, norms)
    assert explained == sorted(explained)
    assert 0 < explained[0] < explained[-1] < 1
