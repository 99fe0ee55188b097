# Copyright (c) mmcim contributors. All rights reserved.
"""CorrIM's objective against its definition, pixel by pixel."""

import pytest
import torch

from mmcim.models.selfsup import CorrelationHead

BATCH, EXEMPLARS, SIDE = 2, 3, 4


def plain_loss(logits, regions, pixel_loss):
    """Sum over exemplars of the mean over images and pixels."""
    total = 0
    for e in range(EXEMPLARS):
        terms = []
        for b in range(BATCH):
            for i in range(SIDE):
                for j in range(SIDE):
                    outside, inside = logits[b, e, :, i, j].exp()
                    p = inside / (outside + inside)
                    terms.append(pixel_loss(p, float(regions[b, e, i, j])))
        total = total + sum(terms) / len(terms)
    return total


@pytest.mark.parametrize('kwargs, pixel_loss', [
    ({}, lambda p, y: -torch.log(p if y else 1 - p)),
    (dict(objective='focal_mse'), lambda p, y: (y - p).abs() ** 2 * (y - p) ** 2),
])  # fmt: skip
def test_loss_and_gradients_match_formula(kwargs, pixel_loss):
    torch.manual_seed(0)
    logits = 2 * torch.randn(BATCH, EXEMPLARS, 2, SIDE, SIDE)
    regions = torch.rand(BATCH, EXEMPLARS, SIDE, SIDE) < 0.3
    ours, plain = logits.clone().requires_grad_(), logits.double().requires_grad_()
    loss = CorrelationHead(in_channels=8, **kwargs).loss(ours, regions)
    expected = plain_loss(plain, regions, pixel_loss)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, atol=0, rtol=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad.double(), plain.grad, atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize('objective', ['cross_entropy', 'focal_mse'])
def test_confident_predictions_give_finite_loss(objective):
    """At logits whose exponentials overflow."""
    sure = torch.tensor([-400.0, 400.0]).view(1, 1, 2, 1, 1).requires_grad_()
    head = CorrelationHead(in_channels=8, objective=objective)
    costs = []
    for inside in (True, False):
        loss = head.loss(sure, torch.tensor([[[[inside]]]]))
        (grad,) = torch.autograd.grad(loss, sure)
        assert grad.isfinite().all()
        costs.append(loss.item())
    assert costs == [0, 800 if objective == 'cross_entropy' else 1]


def test_logits_are_aligned_with_pixels():
    """From 4 to 7 rows and 10 columns, cells are every second and third pixel."""
    torch.manual_seed(0)
    head = CorrelationHead(in_channels=8)
    maps = torch.randn(2, 3, 8, 4, 4)
    logits = head(maps, (7, 10))
    assert logits.shape == (2, 3, 2, 7, 10)
    weight, bias = head.conv.weight[:, :, 0, 0], head.conv.bias
    cells = maps.movedim(2, -1) @ weight.T + bias
    torch.testing.assert_close(logits[..., ::2, ::3], cells.movedim(-1, 2))
    torch.testing.assert_close(logits[..., 1, 0], logits[..., :3:2, 0].mean(dim=-1))


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match='dice'):
        CorrelationHead(objective='dice')
