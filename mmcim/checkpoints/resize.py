# Copyright (c) mmcim contributors. All rights reserved.
"""Position embeddings and relative position bias tables for another grid of patches."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from .layout import Grid, patch_grid

_TABLE = 'relative_position_bias_table'
_SHARED_TABLE = f'rel_pos_bias.{_TABLE}'
# Both have class-token rows besides those of the grid.
_POSITIONS = ('pos_embed', 'absolute_pos_embed', _TABLE)


def resize_positions(
    backbone: nn.Module, name: str, value: Tensor, own: Tensor, grid: Grid | None
) -> Tensor:
    """Bring a tensor of a file to the backbone's grid, if it is one of positions.

    Args:
        backbone: The network.
        name: The tensor's name in the network.
        value: The tensor of the file.
        own: The network's own tensor.
        grid: Rows and columns of patches of the file's network, if it records them. By
            default a square where that is certain.

    Returns:
        The tensor itself if there is nothing to resize.

    Raises:
        ValueError: If it is not certain which grid it is for.
    """
    path, _, last = name.rpartition('.')
    new_grid = patch_grid(backbone.get_submodule(path)) if last in _POSITIONS else None
    if new_grid is None or value.shape[-1] != own.shape[-1]:
        return value
    if (own.ndim, value.ndim) == (4, 3):  # a ViTSAM's embeddings are a map, (1, h, w, C)
        flat = resize_positions(backbone, name, value, own.flatten(1, 2), grid)
        return flat.unflatten(1, new_grid)
    if value.ndim != own.ndim:
        return value
    if last == _TABLE:
        grid = _find_grid(len(value), len(own), _offsets, grid, new_grid)
        return resize_relative_position_table(value, grid, new_grid)
    if value.ndim != 3:
        return value
    found = _find_grid(value.shape[1], own.shape[1], math.prod, grid, new_grid)
    if found != new_grid:
        tokens = value.shape[1] - math.prod(found)
        value = resample_abs_pos_embed(value, new_grid, found, tokens)
    # A network without class token does without the first embedding, too.
    surplus = value.shape[1] - own.shape[1]
    return value[:, surplus:] if surplus else value


def copy_shared_table(given: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Copy a relative position bias table that all layers share to each of them.

    Args:
        given: Tensors of the file by the network's names; changed in place.
        wanted: Tensors of the network.
    """
    layers = [name for name in wanted if name.endswith(f'.attn.{_TABLE}')]
    if layers and _SHARED_TABLE in given and given.keys().isdisjoint(layers):
        shared = given.pop(_SHARED_TABLE)
        given.update((name, shared.clone()) for name in layers)


def resize_relative_position_table(table: Tensor, grid: Grid, new_grid: Grid) -> Tensor:
    """Interpolate a relative position bias table as BEiT does.

    The known offsets are put at geometrically growing distances, dense around zero, with
    a bicubic spline through them, so that near neighbours keep their biases. The released
    code does so by SciPy's former ``interp2d``; here it is for any rectangle, at once for
    all heads, and differentiable. (:func:`timm.layers.resize_rel_pos_bias_table` has the
    same nodes, but interpolates linearly.)

    Args:
        table: ((2h - 1) * (2w - 1) + extra, heads); the rows run over offsets
            (dy, dx) from (1 - h, 1 - w), then come those of the class token, 3 in a
            BEiT, 0 in a Swin, which are kept as they are.
        grid: Rows and columns of patches that it is for, (h, w).
        new_grid: The wanted rows and columns (h', w').

    Returns:
        ((2h' - 1) * (2w' - 1) + extra, heads), of the same dtype.
    """
    height, width = (2 * side - 1 for side in grid)
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


def _offsets(grid: Grid) -> int:
    return (2 * grid[0] - 1) * (2 * grid[1] - 1)


def _find_grid(
    count: int,
    own_count: int,
    positions: Callable[[Grid], int],
    grid: Grid | None,
    new_grid: Grid,
) -> Grid:
    """Find the rows and columns of patches that a tensor of a file is for.

    Args:
        count: Its number of positions, with those of other tokens.
        own_count: That of the network.
        positions: Gives the number of positions of a grid.
        grid: Is taken if it fits. (The windows of a Swin have a grid of their own.)
        new_grid: That of the network.

    Raises:
        ValueError: If none or several are possible.
    """
    extra = own_count - positions(new_grid)
    # Where the module has no class token, the file may still have one, or two.
    tokens = (extra,) if extra else (0, 1, 2)
    if grid is not None and count - positions(grid) in tokens:
        return grid[0], grid[1]
    squares = {(side, side) for side in range(1, math.isqrt(count) + 1)}
    possible = {square for square in squares if count - positions(square) in tokens}
    possible |= {new_grid} if count == own_count else set()
    if len(possible) == 1:
        return possible.pop()
    sizes = ' or '.join(f'{rows} x {columns}' for rows, columns in sorted(possible))
    raise ValueError(
        f'has {count} positions, of {sizes or "no square of"} patches and {extra} other '
        'tokens: take a network with as many of them, or a file that records its grid'
    )


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
    # timm look for q in [1.01, 1.5].
    ratios = np.linspace(1.01, 1.5, 10_000)
    ratio = np.interp(new_reach, (1 - ratios**reach) / (1 - ratios), ratios)
    steps = np.cumsum(ratio ** np.arange(reach))
    known = np.concatenate((-steps[::-1], [0], steps))
    # Beyond the last known offset there is no extrapolation, but the value of that one.
    wanted = np.arange(-new_reach, new_reach + 1).clip(known[0], known[-1])
    # A spline is linear in its values: those of unit vectors are the weights.
    return tuple(map(tuple, CubicSpline(known, np.eye(old))(wanted).tolist()))
