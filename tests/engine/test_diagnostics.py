# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch
from mmpretrain.registry import MODELS

from mmcim.engine.diagnostics import _token_numbers, diagnose, effective_rank

from ..models.selfsup.conftest import configs, inputs  # noqa: F401


def test_effective_rank_of_known_spectra():
    # Orthogonal rows of lengths s: singular values s.
    for s in ([1.0, 1, 1, 1], [4.0, 2, 1, 1], [1.0, 0, 0, 0]):
        features = torch.zeros(4, 6)
        features[range(4), range(4)] = torch.tensor(s)
        p = [value / sum(s) for value in s if value]
        expected = math.exp(-sum(x * math.log(x) for x in p))
        assert effective_rank(features) == pytest.approx(expected)


def test_collapsed_features_have_rank_one():
    torch.manual_seed(0)
    features = torch.rand(64, 1) * torch.rand(1, 32)
    assert effective_rank(features) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.randn(64, 32)) > 25


def test_token_numbers_against_loops():
    torch.manual_seed(0)
    logits, target = torch.randn(50, 8), torch.randint(5, (50,))
    logits[:, :3] += 5  # the others are never predicted
    found = _token_numbers(logits, target)
    ids = target.tolist()
    assert found['token_base_acc'] == pytest.approx(max(map(ids.count, ids)) / 50)
    entropies = []
    for row in logits.tolist():
        total = sum(map(math.exp, row))
        p = [math.exp(x) / total for x in row]
        entropies.append(-sum(x * math.log(x) for x in p))
    assert found['token_entropy'] == pytest.approx(sum(entropies) / 50, rel=1e-4)
    assert found['codes_used'] == len(set(ids)) == 5
    best = {max(range(8), key=row.__getitem__) for row in logits.tolist()}
    assert found['codes_predicted'] == len(best) == 3


def test_one_predicted_token_is_as_good_as_its_frequency(configs):  # noqa: F811
    model = MODELS.build(configs).eval()
    head = model.generator.head.fc
    head.weight.data.zero_()
    found = {}
    images = torch.randint(100, 256, (8, 3, 32, 32), dtype=torch.uint8)
    for token in range(16):
        head.bias.data.zero_()[token] = 9
        found[token] = diagnose(model, dict(inputs=images))
    best = max(found.values(), key=lambda numbers: numbers['token_acc'])
    assert best['token_acc'] == pytest.approx(best['token_base_acc'])
    assert best['codes_predicted'] == 1 and 1 < best['codes_used'] < 16


def test_features_that_are_not_finite_have_no_rank():
    assert math.isnan(effective_rank(torch.tensor([[1.0, math.nan], [0, 1]])))


def test_cim_without_a_generator_has_no_token_numbers(configs):  # noqa: F811
    config = {**configs, 'tokenizer': None, 'generator': None, 'grid': (4, 4)}
    model = MODELS.build(config).eval()
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    found = diagnose(model, dict(inputs=images))
    assert set(found) == {'loss_pix', 'effective_rank'}
    assert 1 <= found['effective_rank'] <= 4
