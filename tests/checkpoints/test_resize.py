# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch import nn

from mmcim.checkpoints import resize
from mmcim.checkpoints.resize import (
    copy_shared_table,
    resize_positions,
    resize_relative_position_table,
)

from .beit_tables import resized_table


def offsets(grid):
    return (2 * grid[0] - 1) * (2 * grid[1] - 1)


def random_table(grid, extra=3, heads=2):
    torch.manual_seed(0)
    return torch.randn(offsets(grid) + extra, heads)


@pytest.mark.parametrize('grid', [(14, 14), (4, 4), (3, 5), (14, 10), (2, 9)])
@pytest.mark.parametrize('new_grid', [(32, 32), (24, 24), (7, 7), (4, 6), (20, 3)])
@pytest.mark.parametrize('extra', [0, 3])
def test_bias_table_matches_beit_spline(grid, new_grid, extra):
    table = random_table(grid, extra)
    ours = resize_relative_position_table(table, grid, new_grid)
    expected = resized_table(table, grid, new_grid)
    assert ours.shape == (offsets(new_grid) + extra, 2)
    torch.testing.assert_close(ours, expected, atol=5e-5, rtol=0)
    rows = offsets(new_grid)
    assert torch.equal(ours[rows:], table[offsets(grid) :])  # the class token's


@pytest.mark.parametrize('new_grid', [(5, 5), (4, 6)])
def test_bias_table_of_single_patch(new_grid):
    table = random_table((1, 1))
    ours = resize_relative_position_table(table, (1, 1), new_grid)
    assert torch.equal(ours[:-3], table[:1].expand(offsets(new_grid), 2))


def test_bias_table_offsets_match_timm():
    """Each known offset that coincides with a new one keeps its bias, as in timm."""
    table = random_table((4, 4))
    # From 4 to 4 + 9 patches: 0, 1, 1 + q, 1 + q + q^2 with 1 + q + q^2 = 12 is too far
    # for q <= 1.5, which leaves 0 and 1 as the offsets that both have.
    ours = resize_relative_position_table(table, (4, 4), (13, 13))[:-3]
    theirs = resize_rel_pos_bias_table(table, (13, 13), (25 * 25 + 3, 2))[:-3]
    near = slice(11, 14)
    ours, theirs = (t.view(25, 25, 2)[near, near] for t in (ours, theirs))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours, table[:-3].view(7, 7, 2)[2:5, 2:5])


def test_resizing_with_gradients_after_inference_mode():
    """The cache holds no tensors of inference mode or of a finished graph."""
    resize._interpolation.cache_clear()
    table = random_table((3, 3)).requires_grad_()
    with torch.inference_mode():
        resize_relative_position_table(table.detach(), (3, 3), (5, 5))
    resize_relative_position_table(table, (3, 3), (5, 5)).sum().backward()
    assert table.grad is not None


def test_transposed_grid_is_resized():
    table = random_table((3, 5))
    assert torch.equal(resize_relative_position_table(table, (3, 5), (3, 5)), table)
    transposed = resize_relative_position_table(table, (3, 5), (5, 3))
    assert transposed.shape == table.shape
    assert not torch.allclose(transposed, table)


def test_bias_table_keeps_dtype_and_gradients():
    table = random_table((3, 3)).bfloat16().requires_grad_()
    new = resize_relative_position_table(table, (3, 3), (5, 5))
    assert new.dtype == torch.bfloat16
    new.float().sum().backward()
    # The weights of old offsets sum to 1 for each new one, for each of two heads.
    assert table.grad.float().sum().item() == pytest.approx(2 * (81 + 3), rel=0.02)


class Network(nn.Module):
    """A stand-in for a ViT: resizing reads its grid only."""

    def __init__(self, grid):
        super().__init__()
        self.patch_resolution = grid


def resized_embedding(embed, grid, new_grid, tokens=1):
    own = torch.zeros(1, tokens + new_grid[0] * new_grid[1], embed.shape[-1])
    return resize_positions(Network(new_grid), 'pos_embed', embed, own, grid)


@pytest.mark.parametrize('extra', [0, 1, 2])
@pytest.mark.parametrize(
    ('grid', 'new_grid'), [((14, 14), (32, 32)), ((4, 6), (3, 8)), ((2, 8), (4, 4))]
)
def test_position_embedding_matches_torch_interpolate(grid, new_grid, extra):
    """Also to a square with the same number of patches."""
    torch.manual_seed(0)
    patches = torch.randn(1, 5, *grid)
    embed = torch.cat((torch.ones(1, extra, 5), patches.flatten(2).mT), dim=1)
    ours = resized_embedding(embed, grid, new_grid, extra)
    expected = F.interpolate(patches, new_grid, mode='bicubic', antialias=True)
    torch.testing.assert_close(ours[:, extra:].mT.unflatten(2, new_grid), expected)
    assert torch.equal(ours[:, :extra], torch.ones(1, extra, 5))


def test_position_embedding_ramp_stays_a_ramp():
    """Values that grow linearly along columns stay linear."""
    ramp = torch.arange(8.0).expand(4, 8).reshape(1, 32, 1)
    new = resized_embedding(ramp, (4, 8), (6, 16), tokens=0).view(6, 16)
    torch.testing.assert_close(new, new[:1].expand(6, 16))
    # New column i lies at (i + 0.5) / 2 - 0.5 of the old ones; edges aside.
    expected = (torch.arange(16) + 0.5) / 2 - 0.5
    torch.testing.assert_close(new[0, 4:12], expected[4:12])


@pytest.mark.parametrize('tokens', [1, 2])
@pytest.mark.parametrize('new_grid', [(4, 4), (3, 5)])
def test_unused_class_token_is_dropped(new_grid, tokens):
    """Embeddings of the class token and of DeiT's distillation token."""
    torch.manual_seed(0)
    embed = torch.randn(1, tokens + 16, 8)
    found = resized_embedding(embed, None, new_grid, tokens=0)
    expected = resample_abs_pos_embed(embed, new_grid, (4, 4), num_prefix_tokens=tokens)
    assert torch.equal(found, expected[:, tokens:])


@pytest.mark.parametrize(
    ('count', 'new_grid', 'message'),
    [
        (16, (6, 6), 'has 16 positions, of no square of patches and 1 other'),
        (15, (4, 4), 'has 15 positions, of no square of patches and 1 other'),
        (17, (2, 8), 'of 2 x 8 or 4 x 4 patches and 1 other tokens: take a'),
    ],
)
def test_ambiguous_grid_raises(count, new_grid, message):
    with pytest.raises(ValueError, match=message):
        resized_embedding(torch.zeros(1, count, 2), None, new_grid)


@pytest.mark.parametrize(
    ('count', 'tokens'), [(15, 1), (16, 1), (18, 1), (15, 0), (19, 0)]
)
def test_wrong_grid_raises(count, tokens):
    with pytest.raises(ValueError, match=f'has {count} positions, of no square of '):
        resized_embedding(torch.zeros(1, count, 2), (4, 4), (5, 5), tokens)


TABLE = 'relative_position_bias_table'
LAYERS = [f'layers.{i}.attn.{TABLE}' for i in range(3)]
SHARED = f'rel_pos_bias.{TABLE}'


def test_shared_bias_table_is_copied_to_layers():
    table = random_table((3, 3))
    given = {SHARED: table}
    copy_shared_table(given, dict.fromkeys(LAYERS))
    assert list(given) == LAYERS
    assert all(torch.equal(value, table) for value in given.values())
    given[LAYERS[2]][0, 0] += 1  # copies, not the same memory
    assert torch.equal(given[LAYERS[1]], table)


def test_bias_tables_of_same_kind_are_unchanged():
    for names in (LAYERS, [SHARED]):
        given = {name: random_table((2, 2)) for name in names}
        before = dict(given)
        copy_shared_table(given, before)
        assert given == before
