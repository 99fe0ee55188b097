# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch

from mmcim.models.heads import MaskedTokenHead, ResPixHead, RevDetHead
from mmcim.models.layers import SlidingWindowNorm


def test_masked_token_head_equals_a_loop():
    torch.manual_seed(0)
    head = MaskedTokenHead(embed_dims=8, vocab_size=11)
    feats = torch.randn(3, 6, 8, requires_grad=True)
    golden = torch.randint(11, (3, 2, 3))
    mask = torch.tensor(
        [[[1, 0, 0], [0, 0, 0]], [[1, 1, 0], [0, 1, 1]], [[0, 0, 1], [1, 0, 0]]]
    ).bool()
    logits = head(feats, mask)
    assert logits.shape == (7, 11)  # only the masked ones are computed
    loss = head.loss(logits, golden[mask], mask)

    per_image = []
    for b in range(3):
        terms = []
        for place in range(6):
            if mask[b].flatten()[place]:
                scores = head.fc.weight @ feats[b, place] + head.fc.bias
                label = golden[b].flatten()[place]
                terms.append(-(scores[label] - scores.exp().sum().log()))
        per_image.append(sum(terms) / len(terms))
    expected = sum(per_image) / 3
    torch.testing.assert_close(loss, expected)

    (ours,) = torch.autograd.grad(loss, feats, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, feats)
    torch.testing.assert_close(ours, theirs)
    assert ours.flatten(0, 1)[~mask.flatten()].abs().max() == 0


def test_masked_token_loss_is_the_mean_of_the_losses_of_two_halves():
    torch.manual_seed(0)
    head = MaskedTokenHead(embed_dims=8, vocab_size=11)
    feats, golden = torch.randn(4, 9, 8), torch.randint(11, (4, 3, 3))
    mask = torch.rand(4, 3, 3) > 0.4  # different counts per picture

    def loss(part):
        logits = head(feats[part], mask[part])
        return head.loss(logits, golden[part][mask[part]], mask[part])

    halves = (loss(slice(0, 2)) + loss(slice(2, 4))) / 2
    torch.testing.assert_close(loss(slice(0, 4)), halves)


def test_masked_token_head_starts_with_truncated_weights():
    torch.manual_seed(0)
    head = MaskedTokenHead(embed_dims=64, vocab_size=1000)
    head.init_weights()
    # A normal distribution of std 0.02, truncated at one sigma.
    assert head.fc.weight.std().item() == pytest.approx(0.0108, rel=0.01)
    assert 0.0199 < head.fc.weight.abs().max() <= 0.02
    assert not head.fc.bias.any()


@pytest.mark.parametrize(('l1', 'l2'), [(0.5, 0.5), (1.0, 0.0), (0.2, 3.0)])
def test_respix_loss_is_over_all_pixels(l1, l2):
    torch.manual_seed(0)
    pred, images = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    head = ResPixHead(target_norm=None, l1_weight=l1, l2_weight=l2)
    total = 0.0
    for p, x in zip(pred.flatten().tolist(), images.flatten().tolist()):
        total += l1 * abs(p - x) + l2 * (p - x) ** 2
    expected = total / pred.numel()
    assert head.loss(pred, images).item() == pytest.approx(expected, rel=1e-4)


def test_respix_target_is_normalised_by_a_window_of_8_by_default():
    images, pred = torch.randn(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    target = SlidingWindowNorm(8)(images)
    expected = 0.5 * target.abs().mean() + 0.5 * target.square().mean()
    head = ResPixHead()
    torch.testing.assert_close(head.loss(pred, images), expected)
    torch.testing.assert_close(head.target(images), target)


@pytest.mark.parametrize('norm', [None, 'SlidingWindowNorm', 'PatchNorm'])
def test_respix_restores_by_what_the_enhancer_has_seen(norm):
    """The statistics of the corrupted image, in which the original has no part."""
    torch.manual_seed(0)
    corrupted, pred = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    head = ResPixHead(target_norm=norm and dict(type=norm))
    restored = head.restore(pred, corrupted)
    if norm is None:
        assert restored.equal(pred)
    elif norm == 'SlidingWindowNorm':
        window = corrupted[1, 2, 6:14, 17:25]  # of pixel (9, 20)
        expected = pred[1, 2, 9, 20] * window.std() + window.mean()
        torch.testing.assert_close(restored[1, 2, 9, 20], expected)
    else:
        patch = corrupted[1, :, :16, 16:]
        expected = pred[1, 2, 9, 20] * patch.std() + patch.mean()
        torch.testing.assert_close(restored[1, 2, 9, 20], expected)


def test_revdet_spreads_the_logits_of_a_coarse_map():
    torch.manual_seed(0)
    head = RevDetHead(in_channels=4, upscale=2)
    feats = torch.randn(1, 4, 3, 3)
    logits = head(feats)
    assert logits.shape == (1, 6, 6)
    conv = head.decoder[0]
    for row in range(6):
        for col in range(6):
            sub = 2 * (row % 2) + col % 2
            cell = feats[0, :, row // 2, col // 2]
            expected = conv.weight[sub, :, 0, 0] @ cell + conv.bias[sub]
            torch.testing.assert_close(logits[0, row, col], expected)


def test_revdet_loss_is_binary_cross_entropy():
    logits = torch.tensor([[[2.0, -1.0], [0.5, 0.0]]])
    replaced = torch.tensor([[[True, False], [False, True]]])
    p = 1 / (1 + torch.exp(-logits))
    expected = -torch.where(replaced, p.log(), (1 - p).log()).mean()
    head = RevDetHead(in_channels=1)
    torch.testing.assert_close(head.loss(logits, replaced), expected)
