# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table

from mmcim.transfer import resize
from mmcim.transfer.resize import (
    infer_grid,
    layers_to_shared,
    resize_position_embedding,
    resize_relative_position_table,
    shared_to_layers,
)


def offsets(grid):
    return (2 * grid[0] - 1) * (2 * grid[1] - 1)


def random_table(grid, extra=3, heads=2):
    torch.manual_seed(0)
    return torch.randn(offsets(grid) + extra, heads)


@pytest.mark.parametrize('grid', [(14, 14), (4, 4), (1, 1)])
@pytest.mark.parametrize('new_grid', [(32, 32), (7, 7), (4, 6), (20, 3)])
@pytest.mark.parametrize('extra', [0, 3])
def test_table_equals_timm_from_squares(grid, new_grid, extra):
    table = random_table(grid, extra)
    ours = resize_relative_position_table(table, grid, new_grid)
    theirs = resize_rel_pos_bias_table(table, new_grid, (offsets(new_grid) + extra, 2))
    torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)


def known_positions(side, new_side):
    """Where BEiT puts the offsets of ``side`` patches among those of ``new_side``."""
    reach, new_reach = side - 1, new_side - 1

    def excess(q):
        return sum(q**i for i in range(reach)) - new_reach

    ends = excess(1.01), excess(1.5)
    # Where no ratio between 1.01 and 1.5 reaches as far, the nearest end is taken.
    q = brentq(excess, 1.01, 1.5) if ends[0] < 0 < ends[1] else (1.01, 1.5)[ends[1] < 0]
    positive = np.cumsum([q**i for i in range(reach)])
    return np.concatenate([-positive[::-1], [0], positive])


@pytest.mark.parametrize(
    ('grid', 'new_grid'), [((3, 5), (7, 2)), ((14, 10), (16, 33)), ((2, 9), (9, 4))]
)
def test_table_from_rectangles(grid, new_grid):
    """Axis by axis, against numpy's interpolation between BEiT's positions."""
    table = random_table(grid, heads=1)
    values = table[:-3, 0].double().numpy().reshape(2 * grid[0] - 1, 2 * grid[1] - 1)
    for axis, (side, new_side) in enumerate(zip(grid, new_grid)):
        wanted = np.arange(1 - new_side, new_side)
        known = known_positions(side, new_side)
        values = np.apply_along_axis(
            lambda v, w=wanted, k=known: np.interp(w, k, v), axis, values
        )
    ours = resize_relative_position_table(table, grid, new_grid)
    np.testing.assert_allclose(ours[:-3, 0], values.flatten(), atol=1e-4)
    assert torch.equal(ours[-3:], table[-3:])  # the class token's


def test_same_rectangle_is_left_alone_and_its_transpose_is_not():
    table = random_table((3, 5))
    assert torch.equal(resize_relative_position_table(table, (3, 5), (3, 5)), table)
    turned = resize_relative_position_table(table, (3, 5), (5, 3))
    assert turned.shape == table.shape
    assert not torch.allclose(turned, table)


def test_table_keeps_dtype_and_gives_gradients():
    table = random_table((3, 3)).bfloat16().requires_grad_()
    new = resize_relative_position_table(table, (3, 3), (5, 5))
    assert new.dtype == torch.bfloat16
    new.float().sum().backward()
    # Each new offset is a weighted mean of old ones, for each of two heads.
    assert table.grad.float().sum().item() == pytest.approx(2 * (81 + 3), rel=0.02)


def test_table_too_small():
    with pytest.raises(ValueError, match='a table of 28 rows .* 4 x 4 .* 49 offsets'):
        resize_relative_position_table(random_table((3, 3)), (4, 4), (5, 5))


@pytest.mark.parametrize('extra', [0, 1, 2])
@pytest.mark.parametrize(
    ('grid', 'new_grid'), [((14, 14), (32, 32)), ((4, 6), (3, 8)), ((2, 12), (12, 2))]
)
def test_embedding_equals_timm(grid, new_grid, extra):
    torch.manual_seed(0)
    embed = torch.randn(1, extra + grid[0] * grid[1], 8)
    ours = resize_position_embedding(embed, grid, new_grid)
    theirs = resample_abs_pos_embed(embed, new_grid, grid, num_prefix_tokens=extra)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours[:, :extra], embed[:, :extra])


@pytest.mark.parametrize(
    ('grid', 'new_grid'), [((2, 8), (4, 4)), ((4, 4), (2, 8)), ((3, 3), (5, 7))]
)
def test_embedding_equals_torchs_interpolation(grid, new_grid, monkeypatch):
    """Also to a square of as many patches, which timm before 1.0.31 leaves alone."""

    def older(embed, new_size, *args, **kwargs):
        return embed

    monkeypatch.setattr(resize, 'resample_abs_pos_embed', older, raising=False)
    torch.manual_seed(0)
    pictures = torch.randn(1, 5, *grid)
    embed = torch.cat((torch.ones(1, 1, 5), pictures.flatten(2).mT), dim=1)
    ours = resize_position_embedding(embed, grid, new_grid)
    expected = F.interpolate(pictures, new_grid, mode='bicubic', antialias=True)
    torch.testing.assert_close(ours[:, 1:].mT.unflatten(2, new_grid), expected)
    assert torch.equal(ours[:, 0], torch.ones(1, 5))


def test_embedding_of_a_ramp():
    """Columns that rise by one keep rising, evenly, and rows stay constant."""
    ramp = torch.arange(8.0).expand(4, 8).reshape(1, 32, 1)
    new = resize_position_embedding(ramp, (4, 8), (6, 16)).view(6, 16)
    torch.testing.assert_close(new, new[:1].expand(6, 16))
    # New column i lies at (i + 0.5) / 2 - 0.5 of the old ones; edges aside.
    expected = (torch.arange(16) + 0.5) / 2 - 0.5
    torch.testing.assert_close(new[0, 4:12], expected[4:12])


def test_embedding_too_short():
    with pytest.raises(ValueError, match='15 position embeddings .* 4 x 4'):
        resize_position_embedding(torch.zeros(1, 15, 2), (4, 4), (5, 5))


def test_shared_table_to_layers_and_back():
    shared = random_table((3, 3))
    layers = shared_to_layers(shared, 3)
    assert len(layers) == 3 and torch.equal(layers_to_shared(layers), shared)
    layers[2][0, 0] += 1
    assert not torch.equal(layers[1], layers[2])  # copies, not the same memory
    with pytest.raises(ValueError, match='that of layer 2 .* use_rel_pos_bias=True'):
        layers_to_shared(layers)


def test_grid_of_a_square():
    assert infer_grid(196) == (14, 14)
    assert infer_grid(195) is None
