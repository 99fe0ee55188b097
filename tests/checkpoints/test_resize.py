# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table

from mmcim.checkpoints import resize
from mmcim.checkpoints.resize import (
    infer_grid,
    layers_to_shared,
    resize_position_embedding,
    resize_relative_position_table,
    shared_to_layers,
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
def test_table_equals_beits_bicubic_spline(grid, new_grid, extra):
    table = random_table(grid, extra)
    ours = resize_relative_position_table(table, grid, new_grid)
    expected = resized_table(table, grid, new_grid)
    assert ours.shape == (offsets(new_grid) + extra, 2)
    torch.testing.assert_close(ours, expected, atol=5e-5, rtol=0)
    rows = offsets(new_grid)
    assert torch.equal(ours[rows:], table[offsets(grid) :])  # the class token's


@pytest.mark.parametrize('new_grid', [(5, 5), (4, 6)])
def test_table_of_a_single_patch(new_grid):
    table = random_table((1, 1))
    ours = resize_relative_position_table(table, (1, 1), new_grid)
    assert torch.equal(ours[:-3], table[:1].expand(offsets(new_grid), 2))


def test_table_has_timms_nodes():
    """Each known offset that falls on a wanted one keeps its bias, as in timm."""
    table = random_table((4, 4))
    # From 4 to 4 + 9 patches: 0, 1, 1 + q, 1 + q + q^2 with 1 + q + q^2 = 12 is too far
    # for q <= 1.5, which leaves 0 and 1 as the offsets that both have.
    ours = resize_relative_position_table(table, (4, 4), (13, 13))[:-3]
    theirs = resize_rel_pos_bias_table(table, (13, 13), (25 * 25 + 3, 2))[:-3]
    near = slice(11, 14)
    ours, theirs = (t.view(25, 25, 2)[near, near] for t in (ours, theirs))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours, table[:-3].view(7, 7, 2)[2:5, 2:5])


def test_resizing_in_a_graph_leaves_nothing_behind():
    """What is kept between calls is no tensor of a mode or graph that has ended."""
    resize._interpolation.cache_clear()
    table = random_table((3, 3)).requires_grad_()
    with torch.inference_mode():
        resize_relative_position_table(table.detach(), (3, 3), (5, 5))
    resize_relative_position_table(table, (3, 3), (5, 5)).sum().backward()
    assert table.grad is not None


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
    # The weights of old offsets sum to 1 for each new one, for each of two heads.
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
