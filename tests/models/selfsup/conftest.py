# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmpretrain.registry import MODELS
from torch.nn import functional as F

from mmcim.models.layers import MaskedPatches
from mmcim.models.tokenizers import BaseTokenizer


@MODELS.register_module()
class GreyTokenizer(BaseTokenizer):
    """A simple tokenizer: the mean grey of each 4 x 4 square."""

    stride = 4
    vocab_size = 16

    def __init__(self):
        super().__init__()
        levels = torch.linspace(0, 1, self.vocab_size)
        self.register_buffer('levels', levels, persistent=False)
        self.identity = dict(type='GreyTokenizer', source='test', sha256='0')

    def _encode(self, images):
        grey = F.avg_pool2d(images.mean(dim=1, keepdim=True), self.stride)
        return (grey.squeeze(1) * (self.vocab_size - 1)).round().long()

    def _decode(self, ids):
        grey = self.levels[ids][:, None].expand(-1, 3, -1, -1)
        return F.interpolate(grey, scale_factor=self.stride)


def patches_of(mask, capacity=None):
    """The masked patches of each image, filled up with others."""
    flat = mask.flatten(1)
    index = [sorted(range(flat.size(1)), key=lambda i: not row[i]) for row in flat]
    index = torch.tensor(index)[:, :capacity]
    return MaskedPatches(index, flat.gather(1, index))


def vit(type='VisionTransformer', **kwargs):
    arch = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
    return dict(type=type, arch=arch, img_size=32, patch_size=8, **kwargs)


def respix(backbone=None, channels=32, stride=8, **kwargs):
    return dict(
        type='ResPix',
        backbone=backbone or vit(out_type='featmap'),
        neck=dict(
            type='SimMIMLinearDecoder', in_channels=channels, encoder_stride=stride
        ),
        **kwargs,
    )


def revdet(backbone=None, channels=32, upscale=1, **kwargs):
    return dict(
        type='RevDet',
        backbone=backbone or vit(out_type='featmap'),
        head=dict(type='RevDetHead', in_channels=channels, upscale=upscale),
        **kwargs,
    )


@pytest.fixture
def configs():
    """Config dicts of a small CIM: 32 px, 4 x 4 patches of 8 px, 16 tokens."""
    return dict(
        type='CIM',
        tokenizer=dict(type='GreyTokenizer'),
        masking=dict(type='UniformMasking', num_masked=(6, 10), num_patches=16),
        generator=dict(
            type='CIMGenerator',
            backbone=vit('FusedBEiTPretrainViT'),
            head=dict(type='MaskedTokenHead', embed_dims=32, vocab_size=16),
        ),
        enhancer=respix(),
        data_preprocessor=dict(
            type='CIMDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            tokenizer_size=16,
        ),
    )


@pytest.fixture
def inputs():
    """Two images and the tokenizer input, as the preprocessor gives them."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    return dict(
        images=(255 * images - mean) / std,
        tokenizer_images=F.interpolate(images, size=16, mode='area'),
    )
