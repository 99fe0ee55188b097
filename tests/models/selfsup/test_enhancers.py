# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS

from .conftest import respix, revdet, vit

GOLDEN = torch.tensor([[[1, 2], [3, 4]]])
MIXED = torch.tensor([[[1, 7], [3, 5]]])  # (1, 0) is a lucky sample
MASK = torch.tensor([[[False, True], [True, True]]])


def test_lucky_samples_are_original_by_default():
    labels = MODELS.build(revdet()).labels(MASK, GOLDEN, MIXED)
    assert labels.tolist() == [[[False, True], [False, True]]]


def test_lucky_samples_can_count_as_replaced():
    labels = MODELS.build(revdet(lucky='replaced')).labels(MASK, GOLDEN, MIXED)
    assert labels.equal(MASK)
    with pytest.raises(ValueError, match='lucky'):
        MODELS.build(revdet(lucky='maybe'))


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
def test_both_enhancers_on_each_kind_of_backbone(name):
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


def test_detection_figures():
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


def test_a_backbone_without_a_feature_map_is_refused():
    model = MODELS.build(respix(vit(out_type='cls_token')))
    with pytest.raises(ValueError, match="out_type='featmap'"):
        model.predict(torch.randn(1, 3, 32, 32))


def test_a_map_that_does_not_fit_the_pictures_is_refused():
    corrupted, images = torch.randn(2, 1, 3, 32, 32)
    with pytest.raises(ValueError, match=r'\(64, 64\).*encoder_stride'):
        MODELS.build(respix(stride=16)).loss(dict(corrupted=corrupted, images=images))


def test_a_map_that_does_not_fit_the_tokens_is_refused():
    model = MODELS.build(revdet(dict(type='ResNet', depth=50), 2048, upscale=1))
    inputs = dict(
        corrupted=torch.randn(1, 3, 64, 64),
        mask=torch.ones(1, 8, 8, dtype=torch.bool),
        golden=torch.zeros(1, 8, 8, dtype=torch.long),
        mixed=torch.ones(1, 8, 8, dtype=torch.long),
    )
    with pytest.raises(ValueError, match='upscale'):
        model.loss(inputs)
