# Copyright (c) mmcim contributors. All rights reserved.
"""Bring the tensors of a file into the form that a module wants."""

import re
from copy import deepcopy
from dataclasses import dataclass, field

from torch import Tensor, nn

from ..utils.checkpoint import load_checkpoint
from .layout import is_derived, patch_grid, starts_anew
from .resize import (
    Grid,
    infer_grid,
    layers_to_shared,
    resize_position_embedding,
    resize_relative_position_table,
    shared_to_layers,
)

_TABLE = 'relative_position_bias_table'
_SHARED_TABLE = f'rel_pos_bias.{_TABLE}'
_LAYER_TABLE = re.compile(rf'(?:layers|blocks)\.(\d+)\.attn\.{_TABLE}')
# Both have class-token rows besides those of the grid.
_POSITIONS = ('pos_embed', 'absolute_pos_embed', _TABLE)
# What the layers of a transformer work on or with, by the names of mmpretrain and timm.
# A class token is not among them: a network may deliberately do without.
_INPUTS = (
    'dist_token',
    'norm_pre',
    'pos_embed',
    'pre_norm',
    'reg_token',
    'register_tokens',
    'rel_pos_bias',
)
# How many tokens besides the patches a network may have: class token and registers.
_MOST_TOKENS = 9


@dataclass
class Fit:
    """What of a module's tensors is there, and how it was brought into form.

    Attributes:
        ready (dict[str, Tensor]): What can be loaded, by the module's names.
        resized (dict[str, tuple[int, int]]): Number of positions before and after.
        converted (str): What was done to relative-position tables; mostly empty.
        new (list[str]): Tensors that only this use of the module has.
        tolerated (list[str]): Missing counters and the like.
        problems (dict[str, str]): Name -> why the module cannot have this tensor, or
            cannot do without it.
        unused (list[str]): Names that the module does not have.
    """

    ready: dict[str, Tensor] = field(default_factory=dict)
    resized: dict[str, tuple[int, int]] = field(default_factory=dict)
    converted: str = ''
    new: list[str] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of tensors that have to be there."""
        missing = [name for name in self.problems if name not in self.unused]
        return len(self.ready) + len(missing)


def wanted_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers of a module that are no mere function of it."""
    return {
        name: value
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor) and not is_derived(name)
    }


def fit_tensors(
    module: nn.Module, tensors: dict[str, Tensor], grid: Grid | None = None
) -> Fit:
    """Resize, share or copy what has to be, and compare the rest.

    Args:
        module (nn.Module): A backbone, or any other network.
        tensors (dict[str, Tensor]): What is there, by the module's names.
        grid (tuple[int, int], optional): Rows and columns of patches that the position
            tensors are for. By default a square where that is certain.

    Returns:
        Fit: What can be loaded. The module itself is unchanged.
    """
    fit = Fit()
    wanted = wanted_tensors(module)
    given = {name: value for name, value in tensors.items() if not is_derived(name)}
    _convert_tables(fit, wanted, given)
    for name, own in wanted.items():
        if name in fit.problems:
            continue
        if name not in given:
            if starts_anew(module, name):
                fit.new.append(name)
            elif own.is_floating_point():
                fit.problems[name] = 'missing'
            else:
                fit.tolerated.append(name)
            continue
        value = given[name]
        if name.rpartition('.')[2] in _POSITIONS:
            try:
                value = _resize(module, name, value, own, grid)
            except ValueError as error:
                fit.problems[name] = str(error)
                continue
        if value.shape != own.shape:
            fit.problems[name] = f'of shape {_shape(value)} instead of {_shape(own)}'
            continue
        if not holds_numbers_for(value, own):
            fit.problems[name] = f'of {value.dtype} instead of {own.dtype}'
            continue
        fit.ready[name] = value
        if value is not given[name]:
            fit.resized[name] = _positions(given[name]), _positions(value)
    fit.unused = [name for name in given if name not in wanted]
    fit.problems.update(_surplus(module, wanted, {n: given[n] for n in fit.unused}))
    return fit


def holds_numbers_for(value: Tensor, own: Tensor) -> bool:
    """Tell whether a tensor is of floating point where the module's own is."""
    return value.is_floating_point() or not own.is_floating_point()


def names_missing(module: nn.Module, checkpoint: str) -> list[str]:
    """List what a plain ``load_state_dict(strict=False)`` would leave random.

    Args:
        module (nn.Module): A network that loads without :func:`load_backbone_weights`.
        checkpoint (str): A local file.

    Returns:
        list[str]: Tensors that the file lacks under the module's own names, besides
        positions, which these networks resize.

    Raises:
        ConfigError: If the file cannot be read.
    """
    state = {}
    if not checkpoint.endswith('.safetensors'):  # which such networks cannot read
        content = load_checkpoint(checkpoint)
        state = content.get('state_dict', content) if isinstance(content, dict) else {}
    return [
        name
        for name, own in wanted_tensors(module).items()
        if not starts_anew(module, name)
        and name.rpartition('.')[2] not in _POSITIONS
        and getattr(state.get(name), 'shape', None) != own.shape
    ]


def complete_by_hooks(module: nn.Module, tensors: dict[str, Tensor], fit: Fit) -> None:
    """Let a module's own hooks rename and resize what does not fit yet.

    Args:
        module (nn.Module): Any network; it is unchanged.
        tensors (dict[str, Tensor]): What is there, by the module's names or old ones.
        fit (Fit): What :func:`fit_tensors` has found; changed in place.
    """
    adapted = {**tensors, **fit.ready}
    try:
        # They are called in the midst of loading, which here goes into a copy.
        double = deepcopy(module).to('meta')
        for path, child in double.named_modules():
            meta = dict(assign_to_params_buffers=True)
            child._load_from_state_dict(
                adapted, path and f'{path}.', meta, False, [], [], []
            )
    except Exception as error:  # whatever a foreign hook raises for what does not fit
        for name in fit.problems.keys() - set(fit.unused):
            fit.problems[name] += f' (and its own hook says: {error!r})'
        return
    for name, own in wanted_tensors(module).items():
        value = adapted.get(name)
        # What they leave alone, such as positions of a doubtful grid, stays a problem.
        if name not in fit.problems or value is None or value is tensors.get(name):
            continue
        if value.shape == own.shape:
            fit.ready[name] = value
            del fit.problems[name]
            if name in tensors:
                fit.resized[name] = _positions(tensors[name]), _positions(value)
    for name in fit.unused:
        if name not in adapted:
            fit.problems.pop(name, None)
    fit.unused = [name for name in fit.unused if name in adapted]


def _convert_tables(
    fit: Fit, wanted: dict[str, Tensor], given: dict[str, Tensor]
) -> None:
    """Copy a shared table to the layers, or equal ones of the layers to a shared one."""
    own = [name for name in wanted if _LAYER_TABLE.fullmatch(name)]
    theirs = [name for name in given if _LAYER_TABLE.fullmatch(name)]
    if own and not theirs and _SHARED_TABLE in given:
        tables = shared_to_layers(given.pop(_SHARED_TABLE), len(own))
        given.update(zip(own, tables))
        fit.converted = f'shared relative positions copied to {len(own)} layers'
    elif theirs and _SHARED_TABLE in wanted and _SHARED_TABLE not in given:
        tables = [given.pop(name) for name in theirs]
        try:
            given[_SHARED_TABLE] = layers_to_shared(tables)
        except ValueError as error:
            fit.problems[_SHARED_TABLE] = str(error)
        else:
            fit.converted = f'equal relative positions of {len(theirs)} layers shared'


def _resize(
    module: nn.Module, name: str, value: Tensor, own: Tensor, grid: Grid | None
) -> Tensor:
    """Bring a position tensor to the module's grid.

    Raises:
        ValueError: If it is not certain which grid it is for.
    """
    new_grid = patch_grid(module.get_submodule(name.rpartition('.')[0]))
    if new_grid is None or value.ndim != own.ndim or value.shape[-1] != own.shape[-1]:
        return value
    if name.endswith(_TABLE):
        grid = _grid_of_table(len(value), len(own), grid, new_grid)
        return resize_relative_position_table(value, grid, new_grid)
    if value.ndim != 3:
        return value
    extra = own.shape[1] - new_grid[0] * new_grid[1]
    grid = grid or _grid_of_embedding(value.shape[1], extra, new_grid)
    value = resize_position_embedding(value, grid, new_grid)
    # A network without class token does without the first embedding, too.
    surplus = 0 if extra else value.shape[1] - own.shape[1]
    return value[:, surplus:] if surplus else value


def _grid_of_table(rows: int, own_rows: int, grid: Grid | None, new_grid: Grid) -> Grid:
    extra = own_rows - _offsets(new_grid)
    # The windows of a Swin have a grid of their own.
    if grid is not None and rows == _offsets(grid) + extra:
        return grid
    if rows == own_rows:
        return new_grid
    sides = infer_grid(rows - extra)
    if sides is None or sides[0] % 2 == 0:
        raise ValueError(
            f'{rows} relative positions are not of a square of patches; say which '
            'rectangle it was by grid=(rows, columns)'
        )
    return (sides[0] + 1) // 2, (sides[1] + 1) // 2


def _offsets(grid: Grid) -> int:
    return (2 * grid[0] - 1) * (2 * grid[1] - 1)


def _grid_of_embedding(count: int, extra: int, new_grid: Grid) -> Grid:
    # Where the module has no class token, the file may still have one, or two.
    tokens = (extra,) if extra else (0, 1, 2)
    numbers = range(min(count, max(_MOST_TOKENS, extra) + 1))
    squares = {number: infer_grid(count - number) for number in numbers}
    square = next((squares[n] for n in tokens if squares.get(n)), None)
    same_count = count - extra == new_grid[0] * new_grid[1]
    if square is None and not same_count:
        others = next((number for number, grid in squares.items() if grid), None)
        if others is None:
            raise ValueError(
                f'{count} position embeddings are not of a square of patches; say which '
                'rectangle it was by grid=(rows, columns)'
            )
        raise ValueError(
            f'{count} position embeddings are {_by(squares[others])} patches and '
            f'{_tokens(others)}, but the network has {_tokens(extra)}; take one that has '
            "as many (mmpretrain's DeiT3 has 0, DistilledVisionTransformer 2, a "
            'TIMMBackbone those of timm), or say which rectangle of patches it was by '
            'grid=(rows, columns)'
        )
    if same_count and square not in (None, new_grid):
        raise ValueError(
            f'{count} position embeddings may be of {_by(square)} or of '
            f'{_by(new_grid)} patches; say which by grid=(rows, columns)'
        )
    return square or new_grid


def _by(grid: Grid) -> str:
    return f'{grid[0]} x {grid[1]}'


def _tokens(number: int) -> str:
    return f'{number} other token{"" if number == 1 else "s"}'


def _surplus(
    module: nn.Module, wanted: dict[str, Tensor], unused: dict[str, Tensor]
) -> dict[str, str]:
    """Find what the file's network computes with and the module does not have.

    That is all within the parts that both have, such as further layers, or scales, norms
    and biases in a layer, and what goes into the layers. The module may do without whole
    parts: heads, decoders, norms of the output, a mask token, last stages.
    """
    common = {name.partition('.')[0] for name in wanted if '.' in name}
    surplus = {}
    for name, value in unused.items():
        if _has_no_effect(name, value):
            continue
        last = _last_of_stack(module, name)
        if last is not None:
            surplus[name] = (
                f'more layers in the file; the last one of the module is {last}'
            )
        elif name.partition('.')[0] in {*common, *_INPUTS}:
            surplus[name] = 'in the file, but not in the module'
    return surplus


def _has_no_effect(name: str, value: Tensor) -> bool:
    """Tell of a tensor inside a common part that features do not depend on it.

    So it is with counters, with the head that networks of timm keep beside a norm, and
    with a bias of keys, which adds the same to all scores that a softmax compares.
    """
    return (
        not value.is_floating_point()
        or 'head' in name.split('.')
        or name.endswith('attn.k_bias')
    )


def _last_of_stack(module: nn.Module, name: str) -> str | None:
    """Path of the last layer of the module's stack that ends before this tensor's."""
    parts = name.split('.')
    for i, part in enumerate(parts):
        path = '.'.join(parts[:i])
        stack = _submodule(module, path) if part.isdigit() else None
        if isinstance(stack, nn.ModuleList | nn.Sequential) and int(part) >= len(stack):
            return f'{path}.{len(stack) - 1}'
    return None


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def _positions(value: Tensor) -> int:
    return value[..., 0].numel()


def _shape(value: Tensor) -> str:
    return f'({", ".join(map(str, value.shape))})'
