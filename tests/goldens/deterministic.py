# Copyright (c) mmcim contributors. All rights reserved.
"""Weights, images and random draws that are the same on every processor."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor, nn


def generator(name: str) -> torch.Generator:
    """A CPU generator seeded by the SHA-256 of a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], 'big')
    return torch.Generator().manual_seed(seed)


def uniform(name: str, *shape: int) -> Tensor:
    """Float64 in [0, 1); normal draws would be vectorised per processor."""
    return torch.rand(shape, generator=generator(name), dtype=torch.float64)


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Fill parameters by name: norm weights about 1, others about 0.

    Relative position biases are larger, or else attention would hardly depend on them.
    """
    for name, param in module.named_parameters():
        centre = 1.0 if param.ndim == 1 and name.endswith('weight') else 0.0
        spread = 2.0 if 'relative_position_bias' in name else 0.2
        param.copy_(centre + spread * (2 * uniform(name, *param.shape) - 1))


def images(name: str, batch_size: int, size: int, block: int = 8) -> Tensor:
    """Coloured blocks with noise, uint8, (B, 3, size, size)."""
    draws, side = generator(name), size // block
    squares = torch.randint(256, (batch_size, 3, side, side), generator=draws)
    squares = squares.repeat_interleave(block, 2).repeat_interleave(block, 3)
    noise = torch.randint(256, (batch_size, 3, size, size), generator=draws)
    return ((3 * squares + noise) // 4).to(torch.uint8)


@contextmanager
def in_float64() -> Iterator[None]:
    """Compute in float64 even where the code asks for float32, and sample portably.

    Heads compute losses in float32, whose last digits depend on the order of summation.
    The stream of ``exponential_`` depends on the processor's maths library.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with (
            patch.object(Tensor, 'float', Tensor.double),
            patch.object(Tensor, 'exponential_', _exponential),
        ):
            yield
    finally:
        torch.set_default_dtype(before)


def _exponential(tensor: Tensor) -> Tensor:
    return tensor.copy_(-torch.rand(tensor.shape).log())
