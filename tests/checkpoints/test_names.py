# Copyright (c) mmcim contributors. All rights reserved.
"""Renamed models have mmpretrain's names and give the same features."""

import pytest
import timm
import torch
import torchvision
from mmpretrain.models.backbones import (
    HiViT,
    MViT,
    ResNet,
    SwinTransformer,
    TIMMBackbone,
    VisionTransformer,
    XCiT,
)
from mmpretrain.registry import MODELS

from mmcim.checkpoints.names import from_mmpretrain, to_mmpretrain

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
TIMM = dict(
    embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, img_size=32, patch_size=8,
    num_classes=5,
)  # fmt: skip
HEAD = {'head.weight', 'head.bias'}

# timm's network and mmpretrain's.
PAIRS = {
    'vit': (
        timm.create_model('vit_base_patch16_224', **TIMM),
        dict(type='VisionTransformer', out_type='cls_token'),
    ),
    'vit, LayerScale and averaging': (
        timm.create_model(
            'vit_base_patch16_224', **TIMM, init_values=0.5, global_pool='avg'
        ),
        dict(
            type='VisionTransformer',
            out_type='avg_featmap',
            final_norm=False,
            layer_scale_init_value=0.5,
        ),
    ),
    'beit': (
        timm.create_model('beit_base_patch16_224', **TIMM),
        dict(type='FusedBEiTViT', out_type='avg_featmap'),
    ),
    'beit, shared relative and absolute positions': (
        timm.create_model(
            'beit_base_patch16_224', **TIMM, use_rel_pos_bias=False,
            use_shared_rel_pos_bias=True, use_abs_pos_emb=True, global_pool='token',
        ),
        dict(
            type='FusedBEiTViT', out_type='cls_token', use_rel_pos_bias=False,
            use_shared_rel_pos_bias=True, use_abs_pos_emb=True, final_norm=True,
        ),
    ),
}  # fmt: skip


@pytest.fixture(params=PAIRS)
def pair(request):
    """A network of timm with random weights, and mmpretrain's without."""
    theirs, config = PAIRS[request.param]
    generator = torch.Generator().manual_seed(0)
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    ours = MODELS.build(dict(config, arch=ARCH, img_size=32, patch_size=8))
    ours.train(False)
    return theirs.eval(), ours


def test_renamed_timm_models_give_same_features(pair):
    theirs, ours = pair
    renamed = to_mmpretrain(theirs.state_dict())
    target = {k for k in ours.state_dict() if not k.endswith('relative_position_index')}
    assert renamed.keys() - HEAD == target
    ours.load_state_dict(renamed, strict=False)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        torch.testing.assert_close(ours(images)[-1], expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.05


def test_renaming_round_trip(pair):
    theirs, _ = pair
    tensors = theirs.state_dict()
    back = from_mmpretrain(to_mmpretrain(tensors))
    assert list(back) == list(tensors)
    assert all(back[name] is tensors[name] for name in tensors)


def test_torchvision_resnet_has_mmpretrain_names():
    theirs, ours = torchvision.models.resnet50(), ResNet(50)
    tensors = theirs.state_dict()
    renamed = to_mmpretrain(tensors)
    assert renamed.keys() - {'fc.weight', 'fc.bias'} == ours.state_dict().keys()
    assert all(renamed[k].shape == v.shape for k, v in ours.state_dict().items())


def test_heads_and_decoders_are_not_renamed():
    """MAE has a decoder with blocks, which do not belong to the backbone."""
    names = [
        'cls_token', 'pos_embed', 'mask_token', 'decoder_pos_embed',
        'patch_embed.proj.weight', 'blocks.0.attn.qkv.weight', 'blocks.11.mlp.fc2.bias',
        'norm.weight', 'decoder_blocks.0.norm1.weight', 'decoder_norm.weight',
        'decoder_pred.bias', 'fc_norm.bias', 'lm_head.weight',
    ]  # fmt: skip
    assert list(to_mmpretrain(dict.fromkeys(names))) == [
        'cls_token', 'pos_embed', 'mask_token', 'decoder_pos_embed',
        'patch_embed.projection.weight', 'layers.0.attn.qkv.weight',
        'layers.11.ffn.layers.1.bias', 'ln1.weight', 'decoder_blocks.0.norm1.weight',
        'decoder_norm.weight', 'decoder_pred.bias', 'ln2.bias', 'lm_head.weight',
    ]  # fmt: skip


def test_names_with_common_prefix_are_not_renamed():
    """For example timm's SwiGLU halves."""
    stay = ['blocks.0.mlp.fc1_g.weight', 'blocks.0.norm10.bias', 'norms.0.weight']
    first = ['patch_embed.proj.weight', 'blocks.0.attn.qkv.weight']
    assert list(to_mmpretrain(dict.fromkeys(first + stay)))[2:] == [
        'layers.0.mlp.fc1_g.weight', 'layers.0.norm10.bias', 'norms.0.weight',
    ]  # fmt: skip


@pytest.mark.parametrize(
    'build',
    [
        lambda: VisionTransformer(ARCH),
        lambda: ResNet(18),
        lambda: SwinTransformer('tiny'),
        lambda: HiViT('tiny'),
        lambda: MViT('tiny'),
        lambda: XCiT(depth=1),
        lambda: TIMMBackbone('vit_tiny_patch16_224'),
    ],
    ids=['ViT', 'ResNet', 'Swin', 'HiViT', 'MViT', 'XCiT', 'TIMMBackbone'],
)
def test_mmpretrain_names_are_not_renamed(build):
    names = list(build().state_dict())
    assert list(to_mmpretrain(dict.fromkeys(names))) == names


def test_duplicate_names_raise():
    names = [
        'patch_embed.proj.weight',
        'blocks.0.attn.qkv.weight',
        'layers.0.attn.qkv.weight',
    ]
    with pytest.raises(
        ValueError, match=r"two tensors .* 'layers\.0\.attn\.qkv\.weight'"
    ):
        to_mmpretrain(dict.fromkeys(names))
