# Copyright (c) mmcim contributors. All rights reserved.
"""What the exports to other libraries have in common: write, reopen, compare."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn


class Written(NamedTuple):
    """What an export has written.

    Attributes:
        usage: Python code that opens it.
        load: Opens it and gives a network from images (B, C, H, W) to features.
    """

    usage: str
    load: Callable[[], nn.Module]


def largest_difference(net: nn.Module, other: nn.Module) -> float:
    """Compare the features of two networks on random images.

    Returns:
        The largest difference, relative to the largest feature; NaN and infinity count
        as any other value.

    Raises:
        ValueError: If the features have different shapes.
    """
    channels = next(w for w in net.parameters() if w.ndim == 4).shape[1]
    size = getattr(net, 'img_size', (224, 224))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, *size, generator=generator)
    with torch.no_grad():
        expected, found = net(images)[-1], other(images)
    if found.shape != expected.shape:
        raise ValueError(
            f'features are of shape {tuple(found.shape)} instead of '
            f'{tuple(expected.shape)}'
        )
    return ((found - expected).abs().max() / expected.abs().max()).item()


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give a path of the same name, which takes the place of ``out`` in the end."""
    folder = out.with_name(f'.{out.name}.{os.getpid()}.tmp')
    folder.mkdir(parents=True)
    try:
        yield folder / out.name
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(folder / out.name, out)
    finally:
        shutil.rmtree(folder)
