# Copyright (c) mmcim contributors. All rights reserved.
"""Position embeddings and relative-position tables for another grid of patches."""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]


def resize_position_embedding(embed: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """Interpolate absolute position embeddings, bicubic and antialiased as timm does.

    Args:
        embed (Tensor): (1, extra + h * w, C); the extra tokens (class, distillation)
            come first and are kept as they are.
        grid (tuple[int, int]): Rows and columns of patches that they are for, (h, w).
        new_grid (tuple[int, int]): The wanted rows and columns (h', w').

    Returns:
        Tensor: (1, extra + h' * w', C), of the same dtype.

    Raises:
        ValueError: If there are fewer embeddings than patches.
    """
    extra = embed.shape[1] - grid[0] * grid[1]
    if extra < 0:
        raise ValueError(
            f'{embed.shape[1]} position embeddings are too few for {_by(grid)} patches'
        )
    if tuple(grid) == tuple(new_grid):
        return embed
    first, patches = embed.split([extra, grid[0] * grid[1]], dim=1)
    # Not timm's function, which before 1.0.31 takes a square for the old one whenever
    # the number of patches is the same.
    patches = patches.float().transpose(1, 2).unflatten(2, tuple(grid))
    patches = F.interpolate(patches, tuple(new_grid), mode='bicubic', antialias=True)
    patches = patches.flatten(2).transpose(1, 2)
    return torch.cat((first, patches.to(embed.dtype)), dim=1)


def resize_relative_position_table(table: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """Interpolate a relative position bias table as BEiT does.

    The known offsets are put at geometrically growing distances, dense around zero, with
    a bicubic spline through them, so that near neighbours keep their biases. The released
    code does so by SciPy's former ``interp2d``; here it is for any rectangle, at once for
    all heads, and differentiable. (:func:`timm.layers.resize_rel_pos_bias_table` has the
    same nodes, but interpolates linearly.)

    Args:
        table (Tensor): ((2h - 1) * (2w - 1) + extra, heads); the rows run over offsets
            (dy, dx) from (1 - h, 1 - w), then come those of the class token, 3 in a
            BEiT, 0 in a Swin, which are kept as they are.
        grid (tuple[int, int]): Rows and columns of patches that it is for, (h, w).
        new_grid (tuple[int, int]): The wanted rows and columns (h', w').

    Returns:
        Tensor: ((2h' - 1) * (2w' - 1) + extra, heads), of the same dtype.

    Raises:
        ValueError: If the table has fewer rows than the grid has offsets.
    """
    height, width = (2 * side - 1 for side in grid)
    if len(table) < height * width:
        raise ValueError(
            f'a table of {len(table)} rows is too small for {_by(grid)} patches, which '
            f'have {height * width} offsets'
        )
    if tuple(grid) == tuple(new_grid):
        return table
    offsets, extra = table.split([height * width, len(table) - height * width])
    rows, columns = (
        torch.tensor(_interpolation(2 * old - 1, 2 * new - 1), device=table.device)
        for old, new in zip(grid, new_grid)
    )
    offsets = offsets.float().view(height, width, -1)
    offsets = torch.einsum('Yy,Xx,yxn->YXn', rows, columns, offsets).flatten(0, 1)
    return torch.cat((offsets.to(table.dtype), extra))


def shared_to_layers(shared: Tensor, num_layers: int) -> list[Tensor]:
    """Give each layer its own copy of a shared table of relative-position biases."""
    return [shared.clone() for _ in range(num_layers)]


def layers_to_shared(tables: list[Tensor]) -> Tensor:
    """Make one shared table of the layers' own ones.

    Raises:
        ValueError: If they differ, because one table cannot stand for them then.
    """
    different = [i for i, table in enumerate(tables) if not torch.equal(table, tables[0])]
    if different:
        raise ValueError(
            'the layers have relative-position tables of their own, and that of layer '
            f'{different[0]} is not that of layer 0: one shared table cannot stand for '
            'them; set use_rel_pos_bias=True and use_shared_rel_pos_bias=False'
        )
    return tables[0]


def infer_grid(count: int) -> Grid | None:
    """Sides of a square of ``count`` patches; None if it is no square."""
    side = math.isqrt(count)
    return (side, side) if side * side == count else None


# A network that runs at another size asks for the same ones in each layer. No tensors are
# kept: they might be of inference mode, or of a graph that is being exported.
@lru_cache(maxsize=64)
@torch.compiler.assume_constant_result  # torch.compile cannot trace SciPy
def _interpolation(old: int, new: int) -> tuple[tuple[float, ...], ...]:
    """Weights with which new offsets are made of the old ones.

    Args:
        old: Number of known offsets of one axis, odd.
        new: Number of wanted offsets, odd.

    Returns:
        (new, old); each row sums to 1.
    """
    from scipy.interpolate import CubicSpline  # importing it takes a second

    if old == 1:
        return ((1.0,),) * new
    reach, new_reach = old // 2, new // 2
    # The known offsets at 0, 1, 1 + q, 1 + q + q^2, ... up to the new reach; BEiT and
    # timm find q by bisection in [1.01, 1.5].
    left, right = 1.01, 1.5
    while right - left > 1e-6:
        ratio = (left + right) / 2
        if (1 - ratio**reach) / (1 - ratio) > new_reach:
            right = ratio
        else:
            left = ratio
    steps = np.cumsum(ratio ** np.arange(reach))
    known = np.concatenate((-steps[::-1], [0], steps))
    # Beyond the last known offset there is no extrapolation, but the value of that one.
    wanted = np.arange(-new_reach, new_reach + 1).clip(known[0], known[-1])
    # A spline is linear in its values: those of unit vectors are the weights.
    return tuple(map(tuple, CubicSpline(known, np.eye(old))(wanted).tolist()))


def _by(grid: Grid) -> str:
    return f'{grid[0]} x {grid[1]}'
