# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch
from torch import nn

from mmcim.models.layers import MomentumEncoder


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.neck = nn.Linear(3, 1)
        self.head = nn.Linear(1, 1)
        self.momentum_encoder = MomentumEncoder(self, ('backbone', 'neck'), 0.9)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model()


def names(model):
    return [k for k, _ in model.named_parameters() if k.startswith(('back', 'neck'))]


def test_momentum_encoder_is_copy_without_gradient(model):
    copy = model.momentum_encoder
    assert not any(p.requires_grad for p in copy.parameters())
    assert {k for k, _ in copy.named_parameters()} == set(names(model))
    for name in names(model):
        ours, theirs = copy.get_parameter(name), model.get_parameter(name)
        assert ours.equal(theirs) and ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize('start, end', [(0.996, 1.0), (0.9, 0.99), (0.99, 0.99)])
def test_coefficient_is_half_a_cosine(model, start, end):
    copy = MomentumEncoder(model, ('neck',), start, end)
    assert copy.coefficient(0, 40) == pytest.approx(start)
    assert copy.coefficient(20, 40) == pytest.approx((start + end) / 2)
    assert copy.coefficient(40, 40) == copy.coefficient(50, 40) == pytest.approx(end)
    for k in range(41):  # as the sine of the half angle
        expected = start + (end - start) * math.sin(math.pi * k / 80) ** 2
        assert copy.coefficient(k, 40) == pytest.approx(expected, abs=1e-12)


def test_update_values(model):
    """Against the explicit sum of the recursion."""
    num_steps, taken = 7, 5
    start = {k: model.get_parameter(k).detach().clone() for k in names(model)}
    seen = {k: [] for k in start}
    momenta = []
    for step in range(taken):
        with torch.no_grad():
            for k in start:
                model.get_parameter(k).add_(torch.randn(start[k].shape))
                seen[k].append(model.get_parameter(k).clone())
        momenta.append(model.momentum_encoder.update(model, step, num_steps))
    assert momenta == pytest.approx(
        [1 - 0.1 * math.cos(math.pi * k / 2 / num_steps) ** 2 for k in range(taken)]
    )
    for k, value in start.items():
        expected = math.prod(momenta) * value
        for t, weight in enumerate(momenta):
            expected = expected + (1 - weight) * math.prod(momenta[t + 1 :]) * seen[k][t]
        own = model.momentum_encoder.get_parameter(k)
        torch.testing.assert_close(own, expected)


def test_buffers_are_not_averaged(model):
    copy = model.momentum_encoder
    copy.backbone(torch.randn(8, 2) + 5)
    own = {k: v.clone() for k, v in copy.backbone.named_buffers()}
    model.backbone(torch.randn(8, 2) - 5)
    copy.update(model, 0, 3)
    for name, value in copy.backbone.named_buffers():
        assert value.equal(own[name])
        if name.endswith('running_mean'):
            assert not value.allclose(model.backbone.get_buffer(name))


def test_copy_from_resets_weights_and_buffers(model):
    nn.init.ones_(model.neck.weight)
    model.backbone(torch.randn(8, 2))
    model.momentum_encoder.update(model, 0, 3)
    model.momentum_encoder.copy_from(model)
    assert model.momentum_encoder.neck.weight.equal(model.neck.weight)
    for name, value in model.backbone.state_dict().items():
        assert model.momentum_encoder.backbone.state_dict()[name].equal(value)
