# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS

from mmcim.models.selfsup import MaskedTokenHead
from mmcim.models.selfsup.base import patch_loss

from .conftest import patches_of, vit


def build(**kwargs):
    return MODELS.build(
        dict(
            type='CIMGenerator',
            backbone=vit('FusedBEiTPretrainViT'),
            head=dict(type='MaskedTokenHead', embed_dims=32, vocab_size=5),
            **kwargs,
        )
    )


def frequencies(generator, logits, draws=40_000):
    torch.manual_seed(0)
    ids = generator.sample(logits.expand(draws, -1))
    assert ids.dtype == torch.int64 and ids.shape == (draws,)
    return torch.bincount(ids, minlength=5) / draws


LOGITS = torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5]])


@pytest.mark.parametrize('temperature', [1.0, 0.5, 3.0])
def test_softmax_sampling_frequencies(temperature):
    expected = torch.tensor([2.718281828 ** (x / temperature) for x in LOGITS[0]])
    expected = expected / expected.sum()
    seen = frequencies(build(temperature=temperature), LOGITS)
    sigma = (expected * (1 - expected) / 40_000).sqrt()
    assert ((seen - expected).abs() < 5 * sigma).all()


def test_uniform_sampling_frequencies():
    seen = frequencies(build(sampling='uniform'), LOGITS)
    assert (seen - 0.2).abs().max() < 5 * (0.16 / 40_000) ** 0.5


def test_argmax_sampling():
    assert frequencies(build(sampling='argmax'), LOGITS)[2] == 1


def test_sampling_from_nan_logits_gives_valid_tokens():
    """The run reports NaN at its next line; an error in sampling would hide that."""
    ids = build().sample(torch.full((3, 5), torch.nan))
    assert ids.shape == (3,) and ids.min() >= 0 and ids.max() < 5


def test_samples_have_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    for sampling in ('softmax', 'argmax', 'uniform'):
        assert not build(sampling=sampling).sample(logits).requires_grad


def test_generator_is_self_supervisor():
    torch.manual_seed(0)
    generator = build()
    assert isinstance(generator, BaseSelfSupervisor)
    images, golden = torch.randn(2, 3, 32, 32), torch.randint(5, (2, 4, 4))
    mask = torch.rand(2, 4, 4) > 0.5
    inputs = dict(images=images, golden=golden, mask=mask, patches=patches_of(mask))
    losses = generator(inputs, mode='loss')

    tokens = generator.backbone(images, mask)[0][:, 1:]
    logits = tokens @ generator.head.fc.weight.T + generator.head.fc.bias
    per_image, right = [], []
    for b in range(2):
        at = mask[b].flatten()
        chosen = logits[b][at].log_softmax(dim=1)
        label = golden[b].flatten()[at]
        per_image.append(-chosen[torch.arange(len(label)), label].mean())
        right.append(chosen.argmax(dim=1) == label)
    torch.testing.assert_close(losses['loss_gen'], sum(per_image) / 2)
    torch.testing.assert_close(losses['token_acc'], torch.cat(right).float().mean())
    losses['loss_gen'].backward()
    assert all(param.grad is not None for param in generator.parameters())


def test_extract_feat_uses_unmasked_images():
    feats = build()(torch.randn(2, 3, 32, 32), mode='tensor')
    assert feats[-1].shape == (2, 17, 32)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match='sampling'):
        build(sampling='gumbel')


def test_masked_token_loss_matches_loop():
    torch.manual_seed(0)
    head = MaskedTokenHead(embed_dims=8, vocab_size=11)
    feats = torch.randn(3, 6, 8, requires_grad=True)
    golden = torch.randint(11, (3, 2, 3))
    mask = torch.tensor(
        [[[1, 0, 0], [0, 0, 0]], [[1, 1, 0], [0, 1, 1]], [[0, 0, 1], [1, 0, 0]]]
    ).bool()
    patches = patches_of(mask, capacity=4)
    logits = head(feats, patches)
    assert logits.shape == (3, 4, 11)  # as many as the image with most masked patches has
    loss = patch_loss(logits, patches.targets(golden))[0]

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


def test_masked_token_loss_averages_over_images():
    torch.manual_seed(0)
    head = MaskedTokenHead(embed_dims=8, vocab_size=11)
    feats, golden = torch.randn(4, 9, 8), torch.randint(11, (4, 3, 3))
    mask = torch.rand(4, 3, 3) > 0.4  # different counts per image

    def loss(part):
        patches = patches_of(mask[part])
        return patch_loss(head(feats[part], patches), patches.targets(golden[part]))[0]

    halves = (loss(slice(0, 2)) + loss(slice(2, 4))) / 2
    torch.testing.assert_close(loss(slice(0, 4)), halves)


def test_masked_token_head_initialization():
    torch.manual_seed(0)
    head = MaskedTokenHead(embed_dims=64, vocab_size=1000)
    head.init_weights()
    # A normal distribution of std 0.02, truncated at one sigma.
    assert head.fc.weight.std().item() == pytest.approx(0.0108, rel=0.01)
    assert 0.0199 < head.fc.weight.abs().max() <= 0.02
    assert not head.fc.bias.any()
