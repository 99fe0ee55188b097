# Copyright (c) mmcim contributors. All rights reserved.
"""Backbones with attention in windows: what they compute, and what they load."""

import pytest
import torch
from safetensors.torch import load_file

from mmcim.checkpoints import load_into
from mmcim.models import WindowedBEiTViT, WindowedViT
from mmcim.models.necks import SimpleFeaturePyramid

from .conftest import ARCH, randomise


def windowed(kind, window_size, img_size=64):
    net = kind(arch=ARCH, window_size=window_size, img_size=img_size)
    return randomise(net)


@pytest.mark.parametrize('kind', [WindowedViT, WindowedBEiTViT])
def test_window_of_the_image_is_global_attention(kind):
    """4 x 4 patches; a layer that is global everywhere has no window at all."""
    net, everywhere = windowed(kind, 4), windowed(kind, 4)
    for layer in everywhere.layers:
        layer.window_size = 0
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(net(images), everywhere(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize('kind', [WindowedViT, WindowedBEiTViT])
def test_windows_do_not_see_each_other(kind):
    net = windowed(kind, 2)
    for layer in net.layers:
        layer.window_size = 2
    images = torch.randn(1, 3, 64, 64)
    other = images.clone()
    other[..., 32:, :] += 1
    (first,), (second,) = net(images), net(other)
    torch.testing.assert_close(first[..., :2, :], second[..., :2, :])
    assert not torch.allclose(first[..., 2:, :], second[..., 2:, :])


def test_beit_type_attends_within_windows_as_each_would_alone():
    """Two halves of an image in a layer are the two images of the halves."""
    net = windowed(WindowedBEiTViT, 2)
    x = torch.randn(1, 16, 64)  # 4 x 4 tokens
    layer = net.layers[0]
    layer.window_size = 2
    whole = layer(x, None, (4, 4)).unflatten(1, (4, 4))
    layer.window_size = 0
    parts = x.unflatten(1, (4, 4))
    for top in (0, 2):
        for left in (0, 2):
            part = parts[:, top : top + 2, left : left + 2].flatten(1, 2)
            alone = layer(part, None, (2, 2)).unflatten(1, (2, 2))
            found = whole[:, top : top + 2, left : left + 2]
            torch.testing.assert_close(found, alone)


@pytest.mark.parametrize('size', [64, 128])
def test_every_tensor_of_a_file_arrives(backbone_file, size):
    tensors = load_file(backbone_file)
    beit = 'rel_pos_bias.relative_position_bias_table' in tensors
    kind = WindowedBEiTViT if beit else WindowedViT
    net = windowed(kind, 2, 64 if beit else size)
    report = load_into(net, backbone_file)
    # A detector has no use for these.
    without = {'cls_token', 'mask_token', 'ln1.weight', 'ln1.bias'}
    assert {*report.unused} <= without
    assert all(name.endswith(('rel_pos_h', 'rel_pos_w')) for name in report.new)
    state = net.state_dict()
    for name in tensors.keys() - without:
        if name.startswith('rel_pos_bias.'):
            table = tensors['rel_pos_bias.relative_position_bias_table']
            for i in range(4):
                found = state[f'layers.{i}.attn.relative_position_bias_table']
                assert found.equal(table)
        elif name != 'pos_embed':
            assert state[name].equal(tensors[name]), name
        elif size == 64:
            assert state[name].flatten(1, 2).equal(tensors[name][:, 1:])
        else:
            assert state[name].shape == (1, 8, 8, 64)


@pytest.mark.parametrize('norm', [dict(type='LN2d'), dict(type='BN')])
def test_pyramid_has_strides_of_4_to_64(norm):
    neck = SimpleFeaturePyramid(32, out_channels=8, norm_cfg=norm)
    maps = neck((torch.randn(2, 32, 4, 8),))
    sizes = [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    assert [tuple(map_.shape) for map_ in maps] == [(2, 8, *size) for size in sizes]
    sum(map_.sum() for map_ in maps).backward()
    assert all(p.grad is not None for p in neck.parameters())
