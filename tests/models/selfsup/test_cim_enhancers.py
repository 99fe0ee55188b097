# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS

from mmcim.models.layers import SlidingWindowNorm
from mmcim.models.selfsup import ResPixHead, RevDetHead

from .conftest import respix, revdet, vit

GOLDEN = torch.tensor([[[1, 2], [3, 4]]])
MIXED = torch.tensor([[[1, 7], [3, 5]]])  # (1, 0) is a correct sample
MASK = torch.tensor([[[False, True], [True, True]]])


def test_correct_samples_count_as_original_by_default():
    labels = MODELS.build(revdet()).labels(MASK, GOLDEN, MIXED)
    assert labels.tolist() == [[[False, True], [False, True]]]


def test_correct_samples_can_count_as_replaced():
    model = MODELS.build(revdet(correct_samples_as='replaced'))
    labels = model.labels(MASK, GOLDEN, MIXED)
    assert labels.equal(MASK)
    with pytest.raises(ValueError, match='correct_samples_as'):
        MODELS.build(revdet(correct_samples_as='maybe'))


BACKBONES = {
    'vit': (vit(out_type='featmap'), 32, 8),
    'beit': (vit('FusedBEiTViT', out_type='featmap'), 32, 8),
    'resnet50': (dict(type='ResNet', depth=50), 2048, 32),
    'timm resnet': (
        dict(
            type='TIMMBackbone',
            model_name='resnet10t',
            features_only=True,
            out_indices=(3, 4),
        ),
        512,
        32,
    ),
    'timm vit': (
        dict(
            type='TIMMBackbone',
            model_name='vit_tiny_patch16_224',
            features_only=True,
            out_indices=(-1,),
            img_size=64,
            depth=2,
        ),
        192,
        16,
    ),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_enhancers_with_vit_and_cnn_backbones(name):
    torch.manual_seed(0)
    backbone, channels, stride = BACKBONES[name]
    size = 32 if stride == 8 else 64
    corrupted, images = torch.randn(2, 2, 3, size, size)
    model = MODELS.build(respix(backbone, channels, stride))
    assert isinstance(model, BaseSelfSupervisor)
    assert model.predict(corrupted).shape == images.shape
    losses = model(dict(corrupted=corrupted, images=images), mode='loss')
    losses['loss_pix'].backward()
    assert all(p.grad is not None for p in model.parameters())

    # tokens of 8 px: stride / 8 per cell and side
    model = MODELS.build(revdet(backbone, channels, upscale=stride // 8))
    assert isinstance(model, BaseSelfSupervisor)
    golden, mixed = torch.randint(4, (2, 2, size // 8, size // 8))
    replaced = golden != mixed
    losses = model(
        dict(corrupted=corrupted, mask=replaced, golden=golden, mixed=mixed),
        mode='loss',
    )
    losses['loss_det'].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert losses['det_base_rate'] == pytest.approx(replaced.float().mean())


def test_enhancers_get_corrupted_image():
    """The original, which is in the same dict, is the target only."""
    torch.manual_seed(0)
    corrupted, images = torch.randn(2, 2, 3, 32, 32)
    golden, mixed = torch.randint(4, (2, 2, 4, 4))
    inputs = dict(corrupted=corrupted, images=images)
    inputs.update(mask=golden != mixed, golden=golden, mixed=mixed)

    model = MODELS.build(respix())
    error = model.neck(model.backbone(corrupted)[-1]) - SlidingWindowNorm(8)(images)
    expected = (0.5 * error.abs() + 0.5 * error.square()).mean()
    torch.testing.assert_close(model.loss(inputs)['loss_pix'], expected)

    model = MODELS.build(revdet())
    model.init_weights()
    conv = model.head.decoder[0]
    feats = model.backbone(corrupted)[-1]
    logits = torch.einsum('c,bchw->bhw', conv.weight[0, :, 0, 0], feats) + conv.bias
    p = 1 / (1 + torch.exp(-logits))
    expected = -torch.where(golden != mixed, p.log(), (1 - p).log()).mean()
    torch.testing.assert_close(model.loss(inputs)['loss_det'], expected)


def test_detection_metrics():
    model = MODELS.build(revdet()).eval()
    inputs = dict(
        corrupted=torch.randn(1, 3, 16, 16), mask=MASK, golden=GOLDEN, mixed=MIXED
    )
    logits = torch.tensor([[[-1.0, 2.0], [0.5, -0.5]]])
    model.predict = lambda corrupted: logits
    losses = model.loss(inputs)
    # replaced: 2.0 and -0.5; original: -1.0 and 0.5; 3 of 4 pairs are in order
    assert losses['det_auc'] == pytest.approx(0.75)
    assert losses['det_acc'] == pytest.approx(0.5)
    assert losses['det_base_rate'] == pytest.approx(0.5)


def test_backbone_without_feature_map_raises():
    model = MODELS.build(respix(vit(out_type='cls_token')))
    with pytest.raises(ValueError, match="out_type='featmap'"):
        model.predict(torch.randn(1, 3, 32, 32))


def test_feature_map_that_does_not_match_images_raises():
    corrupted, images = torch.randn(2, 1, 3, 32, 32)
    with pytest.raises(ValueError, match=r'\(3, 64, 64\).*encoder_stride'):
        MODELS.build(respix(stride=16)).loss(dict(corrupted=corrupted, images=images))


def test_feature_map_that_does_not_match_tokens_raises():
    model = MODELS.build(revdet(dict(type='ResNet', depth=50), 2048, upscale=1))
    inputs = dict(
        corrupted=torch.randn(1, 3, 64, 64),
        mask=torch.ones(1, 8, 8, dtype=torch.bool),
        golden=torch.zeros(1, 8, 8, dtype=torch.long),
        mixed=torch.ones(1, 8, 8, dtype=torch.long),
    )
    with pytest.raises(ValueError, match='upscale'):
        model.loss(inputs)


@pytest.mark.parametrize(('l1', 'l2'), [(0.5, 0.5), (1.0, 0.0), (0.2, 3.0)])
def test_respix_loss_covers_all_pixels(l1, l2):
    torch.manual_seed(0)
    pred, images = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    head = ResPixHead(target_norm=None, l1_weight=l1, l2_weight=l2)
    total = 0.0
    for p, x in zip(pred.flatten().tolist(), images.flatten().tolist()):
        total += l1 * abs(p - x) + l2 * (p - x) ** 2
    expected = total / pred.numel()
    assert head.loss(pred, images).item() == pytest.approx(expected, rel=1e-4)


def test_respix_default_target_uses_window_of_8():
    images, pred = torch.randn(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    target = SlidingWindowNorm(8)(images)
    expected = 0.5 * target.abs().mean() + 0.5 * target.square().mean()
    head = ResPixHead()
    torch.testing.assert_close(head.loss(pred, images), expected)
    torch.testing.assert_close(head.target(images), target)


@pytest.mark.parametrize('norm', [None, 'SlidingWindowNorm', 'PatchNorm'])
def test_respix_restores_with_statistics_of_corrupted_image(norm):
    """Statistics of the corrupted image, not of the original."""
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


def test_revdet_upscales_coarse_logits():
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
