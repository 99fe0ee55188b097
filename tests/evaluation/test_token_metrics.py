# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch

from mmcim.evaluation import binary_auc, token_accuracy


def pair_count(logits, labels):
    positive = logits[labels.bool()][:, None]
    negative = logits[~labels.bool()][None]
    wins = (positive > negative).double() + 0.5 * (positive == negative).double()
    return wins.mean().item()


@pytest.mark.parametrize('levels', [2, 5, None])
@pytest.mark.parametrize('rate', [0.02, 0.5, 0.9])
def test_auc_is_fraction_of_ordered_pairs(levels, rate):
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(16, 49, generator=generator) < rate).long()
    logits = torch.randn(16, 49, generator=generator) + labels
    if levels is not None:  # many ties
        logits = (logits * levels / 4).round()
    auc = binary_auc(logits, labels)
    assert auc.dtype == torch.float32 and auc.shape == ()
    assert auc.item() == pytest.approx(pair_count(logits, labels), abs=1e-6)
    sklearn_metrics = pytest.importorskip('sklearn.metrics')
    reference = sklearn_metrics.roc_auc_score(labels.flatten(), logits.flatten())
    assert auc.item() == pytest.approx(reference, abs=1e-6)


def test_auc_of_perfect_and_inverted_ranking():
    labels = torch.tensor([False, False, True, True])
    assert binary_auc(torch.tensor([1.0, 2.0, 3.0, 4.0]), labels) == 1
    assert binary_auc(torch.tensor([4.0, 3.0, 2.0, 1.0]), labels) == 0
    assert binary_auc(torch.zeros(4), labels) == 0.5


def test_auc_of_one_class_is_nan():
    for labels in (torch.zeros(5), torch.ones(5)):
        assert math.isnan(binary_auc(torch.randn(5), labels).item())


def test_auc_is_exact_for_a_large_batch():
    """A sum of 400,000 ranks exceeds the precision of float32."""
    logits = torch.arange(400_000)
    labels = torch.arange(400_000) % 2
    # Each of the n positives loses to the negatives above it: (n + 1) / 2n are won.
    assert binary_auc(logits.double(), labels).item() == pytest.approx(
        200_001 / 400_000, abs=1e-7
    )


def test_auc_accepts_half_precision():
    labels = torch.tensor([0, 1, 1, 0])
    logits = torch.tensor([0.5, 0.25, 2.0, -1.0], dtype=torch.bfloat16)
    assert binary_auc(logits, labels) == 0.75


def test_token_accuracy():
    logits = torch.tensor([[0.1, 0.9, 0.0], [2.0, -1.0, 1.0], [0.0, 0.0, 3.0]])
    accuracy = token_accuracy(logits, torch.tensor([1, 0, 1]))
    assert accuracy.item() == pytest.approx(2 / 3)
    assert token_accuracy(logits[None], torch.tensor([[1, 0, 2]])) == 1


def test_metrics_carry_no_gradient():
    logits = torch.randn(6, 4, requires_grad=True)
    assert not token_accuracy(logits, torch.zeros(6, dtype=torch.long)).requires_grad
    assert not binary_auc(logits[:, 0], torch.tensor([0, 1] * 3)).requires_grad
