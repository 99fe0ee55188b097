# Copyright (c) mmcim contributors. All rights reserved.
"""Masking strategies: which patches of an image are hidden, drawn on the device.

In every mask 1 (True) means *masked* (hidden from the generator, replaced in the
corrupted image) and 0 (False) means *kept*.
"""

import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from mmpretrain.registry import MODELS
from torch import Tensor

from ...checkpoints.layout import Grid

IGNORED = -100
"""The target of a patch that is no part of a loss, as PyTorch's cross-entropy has it."""


class MaskedPatches(NamedTuple):
    """The masked patches of a batch, the same number of each image.

    To pick them by a boolean mask, the host would have to wait for a GPU to know how many
    they are. So each image gives as many as its masking strategy masks at most: first the
    masked ones, row by row, then others to fill up.

    Attributes:
        positions: Numbers of the patches, row by row in the image, int64, (B, K).
        valid: bool, (B, K); False where a patch only fills up.
    """

    positions: Tensor
    valid: Tensor

    def gather(self, tokens: Tensor) -> Tensor:
        """Pick the tokens of these patches, (B, h * w, C) -> (B, K, C)."""
        return tokens.take_along_dim(self.positions[..., None], dim=1)

    def targets(self, ids: Tensor) -> Tensor:
        """Pick ids as targets, :data:`IGNORED` where not valid, (B, h, w) -> (B, K)."""
        picked = ids.flatten(1).gather(1, self.positions)
        return picked.where(self.valid, IGNORED)

    def replace(self, ids: Tensor, samples: Tensor) -> Tensor:
        """Replace the ids of masked patches.

        Args:
            ids: (B, h, w).
            samples: The new ones, (B, K); those that only fill up are left out.

        Returns:
            (B, h, w).
        """
        flat = ids.flatten(1)  # (B, h * w)
        new = samples.where(self.valid, flat.gather(1, self.positions))
        return flat.scatter(1, self.positions, new).view_as(ids)


class BaseMasking(metaclass=ABCMeta):
    """A masking strategy: how the masks of a batch are drawn.

    All draws come from PyTorch's generator of the device, so that they follow the
    run's seed, need no transfer and are restored with the rest of the random state
    when a run is resumed.
    """

    @abstractmethod
    def __call__(self, batch_size: int, grid: Grid, device: torch.device) -> Tensor:
        """Draw one mask per image.

        Args:
            batch_size: Number of images B.
            grid: Rows h and columns w of patches.
            device: Where the masks are made.

        Returns:
            bool, (B, h, w); True is masked.

        Raises:
            ValueError: If the strategy does not suit the grid.
        """

    def capacity(self, grid: Grid) -> int:
        """The most patches of an image that are masked.

        A strategy that masks more than the one that it inherits from overrides this, too.
        Defaults to all patches.
        """
        return grid[0] * grid[1]

    def patches(self, mask: Tensor) -> MaskedPatches:
        """Find the masked patches of a batch.

        Args:
            mask: As this strategy draws it, bool, (B, h, w).
        """
        _, h, w = mask.shape
        flat = mask.flatten(1)  # (B, h * w)
        # Masked first, each part in order; CUDA does not sort bool.
        order = (~flat).byte().argsort(dim=1, stable=True)
        positions = order[:, : self.capacity((h, w))]  # (B, K)
        return MaskedPatches(positions, flat.gather(1, positions))

    def _check_count(self, low: int, high: int, grid: tuple[int, int]) -> None:
        if not 0 < low <= high < grid[0] * grid[1]:
            raise ValueError(f'{self} masks {low} to {high} of {grid[0]} x {grid[1]}')


def _mask_any(
    num_masked: Tensor | int, batch_size: int, grid: Grid, device: torch.device
) -> Tensor:
    """Mask so many patches of each image, any of them, (B, h, w)."""
    scores = torch.rand(batch_size, grid[0] * grid[1], device=device)
    ranks = scores.argsort(dim=1).argsort(dim=1)
    return (ranks < num_masked).view(batch_size, *grid)


def _scaled(count: int, masking: 'UniformMasking | BlockMasking', grid: Grid) -> int:
    """A count of patches of the reference grid as the same fraction of this one."""
    return round(count * grid[0] * grid[1] / masking.num_patches)


@MODELS.register_module()
@dataclass
class UniformMasking(BaseMasking):
    """Uniformly random patches, whose number is drawn for each image.

    The strategy of Corrupted Image Modeling (arXiv 2202.03382, sec. 3): about half of the
    patches, spread uniformly rather than in blocks. The number of masked patches is
    uniform over the integers of a closed range; the range is given for a reference
    grid and scales with the area of the actual one.

    Args:
        num_masked: Least and greatest number of masked patches.
        num_patches: Patches of the grid for which ``num_masked`` is meant. Defaults to
            14 x 14.

    Example:
        >>> mask = UniformMasking(num_masked=(100, 120))(2, (14, 14), 'cpu')
        >>> mask.shape, mask.dtype
        (torch.Size([2, 14, 14]), torch.bool)
        >>> all(100 <= number <= 120 for number in mask.sum(dim=(1, 2)))
        True
    """

    num_masked: tuple[int, int] = (100, 120)
    num_patches: int = 196

    def capacity(self, grid: Grid) -> int:
        return _scaled(self.num_masked[1], self, grid)

    def __call__(self, batch_size: int, grid: Grid, device: torch.device) -> Tensor:
        low, high = (_scaled(number, self, grid) for number in self.num_masked)
        self._check_count(low, high, grid)
        num_masked = torch.randint(low, high + 1, (batch_size, 1), device=device)
        return _mask_any(num_masked, batch_size, grid, device)


@MODELS.register_module()
@dataclass
class RatioMasking(BaseMasking):
    """Uniformly random squares of patches, the same fraction of every image.

    Args:
        ratio: Fraction of masked squares, in (0, 1). Their number is rounded up, as by
            SimMIM and ConMIM.
        mask_patch_size: Side of the squares in patches. SimMIM (arXiv 2111.09886) and
            ConMIM (arXiv 2205.09616) mask squares of 32 px, that is 2 patches of 16 px.

    Example:
        >>> mask = RatioMasking(ratio=0.5, mask_patch_size=2)(1, (4, 4), 'cpu')
        >>> mask.sum().item()
        8
    """

    ratio: float = 0.5
    mask_patch_size: int = 1

    def capacity(self, grid: Grid) -> int:
        side = self.mask_patch_size
        squares = (grid[0] // side) * (grid[1] // side)
        # 0.6 * 25 is a little more than 15 in floating point.
        return math.ceil(self.ratio * squares - 1e-9) * side**2

    def __call__(self, batch_size: int, grid: Grid, device: torch.device) -> Tensor:
        side = self.mask_patch_size
        if grid[0] % side or grid[1] % side:
            raise ValueError(f'{grid=} cannot be divided by mask_patch_size={side}')
        squares = grid[0] // side, grid[1] // side
        num_masked = self.capacity(grid) // side**2
        self._check_count(num_masked, num_masked, squares)
        mask = _mask_any(num_masked, batch_size, squares, device)
        return mask.repeat_interleave(side, 1).repeat_interleave(side, 2)


@MODELS.register_module()
@dataclass
class BlockMasking(BaseMasking):
    """BEiT's blockwise masks (arXiv 2106.08254, algorithm 1), a batch at a time.

    Rectangles of random area and shape are laid over the image until the wanted
    number of patches is masked. As in BEiT's code a rectangle counts only if it adds
    at least one patch and no more than are still wanted, ten misfits in a row end the
    image, and so a few patches of the wanted number may be missing. But no image ends
    without a rectangle: where the first ten are misfits, too large for a small grid,
    those that follow get smaller and smaller until one fits.

    The reference draws one image at a time on the CPU. Here all images of a batch
    advance together for a fixed number of proposals, without asking the device for a
    result.

    Args:
        num_masked: Target number of masked patches.
        min_block: Least area of a rectangle in patches.
        min_aspect: Least aspect ratio; the greatest is its inverse.
        max_proposals: Rectangles that are tried per image.
        num_patches: Patches of the grid for which ``num_masked`` and ``min_block`` are
            meant; of other grids they are the same fraction. Defaults to BEiT's 14 x 14.
    """

    max_misfits = 10

    num_masked: int = 75
    min_block: int = 16
    min_aspect: float = 0.3
    max_proposals: int = 64
    num_patches: int = 196

    def capacity(self, grid: Grid) -> int:
        return _scaled(self.num_masked, self, grid)

    def __post_init__(self) -> None:
        if not 0 < self.min_block <= self.num_masked or not 0 < self.min_aspect <= 1:
            raise ValueError(f'{self} needs 0 < min_block <= num_masked, min_aspect <= 1')

    def __call__(self, batch_size: int, grid: Grid, device: torch.device) -> Tensor:
        h, w = grid
        num_masked = _scaled(self.num_masked, self, grid)
        min_block = max(1, _scaled(self.min_block, self, grid))
        self._check_count(num_masked, num_masked, grid)
        # One draw for all proposals: area, aspect, top, left.
        draws = torch.rand(self.max_proposals, 4, batch_size, device=device)
        rows = torch.arange(h, device=device).view(1, h, 1)
        cols = torch.arange(w, device=device).view(1, 1, w)
        mask = torch.zeros(batch_size, h, w, dtype=torch.bool, device=device)
        misfits = torch.zeros(batch_size, device=device)
        log_aspect = math.log(self.min_aspect)
        for u_area, u_aspect, u_top, u_left in draws:
            wanted = num_masked - mask.sum(dim=(1, 2))
            area = min_block + u_area * (wanted - min_block)
            area = area * 0.9 ** (misfits + 1 - self.max_misfits).clamp(min=0)
            aspect = torch.exp(log_aspect * (1 - 2 * u_aspect))
            block_h = torch.sqrt(area * aspect).round().clamp(min=1)
            block_w = torch.sqrt(area / aspect).round().clamp(min=1)
            top = (u_top * (h - block_h + 1)).floor().view(-1, 1, 1)
            left = (u_left * (w - block_w + 1)).floor().view(-1, 1, 1)
            block = (
                (rows >= top)
                & (rows < top + block_h.view(-1, 1, 1))
                & (cols >= left)
                & (cols < left + block_w.view(-1, 1, 1))
            )
            added = (block & ~mask).sum(dim=(1, 2))
            fits = (
                (block_h < h)
                & (block_w < w)
                & (added > 0)
                & (added <= wanted)
                & ((misfits < self.max_misfits) | (wanted == num_masked))
            )
            mask |= block & fits.view(-1, 1, 1)
            misfits = torch.where(fits, 0 * misfits, misfits + 1)
        return mask
