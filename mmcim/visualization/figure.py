# Copyright (c) mmcim contributors. All rights reserved.
"""The ways to draw: labelled panels of images, and points, as an array or a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from ..models.data_preprocessors.preprocessors import resize
from ..utils.files import atomic_write

Colour = tuple[float, float, float]

_DPI = 100
_GAP = 4  # pixels between images
_LINE = 16  # pixels of a line of text
_MIN_WIDTH = 480


def draw_panels(
    panels: Mapping[str, Tensor],
    title: str = '',
    legend: Mapping[str, Colour] | None = None,
    rows: Sequence[str] = (),
    min_side: int = 96,
    max_side: int = 256,
    captions: Mapping[str, Sequence[str]] = {},
) -> np.ndarray:
    """Draw images beside one another, a column per name and a row per image.

    Args:
        panels: Heading, of one line or more -> images, float in [0, 1], (B, 3, H, W),
            all of one shape.
        title: Above all of them.
        legend: What is what -> its colour, RGB in [0, 1]; below all of them.
        rows: Names of the B rows, to the left of them.
        min_side: Images are enlarged by the whole factor that brings their height to at
            least this many pixels.
        max_side: Those of more pixels are reduced to this height.
        captions: Heading -> a text of one or two lines below each of its images; a line
            that is too long loses its beginning.

    Returns:
        (H', W', 3), uint8, RGB.
    """
    images = torch.stack(list(panels.values()), dim=1)  # (B, P, 3, h, w)
    below = 2 * _LINE * bool(captions)
    grid = _arrange(images, min_side, max_side, below)
    height, width = grid.shape[:2]
    cell = height // images.size(0), width // images.size(1)

    left = max((_LINE // 2 * len(name) for name in rows), default=0)
    lines = title.splitlines()
    top = _LINE * (1 + max(name.count('\n') + 1 for name in panels) + len(lines))
    width = max(width + _GAP, _MIN_WIDTH, *(9 * len(line) - left for line in lines))
    total = left + width, top + height + _LINE * 2 * bool(legend)
    # A little more, since matplotlib cuts fractions of pixels off.
    size = (total[0] + 0.01) / _DPI, (total[1] + 0.01) / _DPI
    figure = Figure(size, _DPI, facecolor='white')
    figure.figimage(grid, left, total[1] - top - height)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / total[0], 1 - y / total[1], text, **style)

    write(_GAP, _LINE / 2, title, va='top', weight='bold', size=10)
    for column, name in enumerate(panels):
        x = left + cell[1] * (column + 0.5)
        write(x, top, name, ha='center', va='bottom', size=9)
        for row, text in enumerate(captions.get(name, ())):
            y = top + cell[0] * (row + 1) - below + 2
            short = (_shorten(line, cell[1] // 7) for line in text.split('\n'))
            write(x, y, '\n'.join(short), ha='center', va='top', size=7)
    for row, name in enumerate(rows):
        write(left, top + cell[0] * (row + 0.5), name, ha='right', size=9)
    patches = [Patch(color=colour, label=name) for name, colour in (legend or {}).items()]
    if patches:
        figure.legend(handles=patches, loc='lower left', ncols=len(patches), fontsize=9)
    return rendered(figure)


def _arrange(images: Tensor, min_side: int, max_side: int, below: int) -> np.ndarray:
    """Put rows and columns of images, (B, P, 3, h, w), into one, (H, W, 3)."""
    num_columns = images.size(1)
    images = images.flatten(0, 1).float().cpu().nan_to_num()
    if images.size(2) > max_side:
        width = round(images.size(3) * max_side / images.size(2))
        images = resize(images, (max_side, width))
    factor = max(1, -(-min_side // images.size(2)))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    images = F.pad(images.clamp(0, 1), (_GAP, 0, _GAP, below), value=1)
    grid = images.unflatten(0, (-1, num_columns))  # (B, P, 3, h, w)
    return grid.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).numpy()


def _shorten(line: str, room: int) -> str:
    """Leave out the beginning of what has more than so many characters."""
    return line if len(line) <= room else f'\N{HORIZONTAL ELLIPSIS}{line[1 - room :]}'


def draw_points(points: np.ndarray, groups: Sequence[str], title: str) -> np.ndarray:
    """Draw points in the plane, in the colours of their groups.

    Args:
        points: (N, 2); the axes have no scale.
        groups: The group of each; in the legend, if there is more than one.
        title: Above them.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    names = sorted(set(groups))
    figure = Figure((10, 8), _DPI, facecolor='white', layout='constrained')
    axes = figure.add_subplot(xticks=[], yticks=[])
    axes.set_aspect('equal', adjustable='datalim')
    axes.set_title(title, loc='left', weight='bold', size=10)
    table = colormaps['tab10' if len(names) <= 10 else 'turbo']
    colours = table.resampled(max(10, len(names)))
    for i, name in enumerate(names):
        x, y = points[[group == name for group in groups]].T
        axes.scatter(x, y, s=20, color=colours(i), label=name, linewidths=0, alpha=0.8)
    if len(names) > 1:
        figure.legend(loc='outside right upper', ncols=1 + len(names) // 30)
    return rendered(figure)


def rendered(figure: Figure) -> np.ndarray:
    """Give the pixels of a figure, (H, W, 3), uint8, RGB."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_image(image: np.ndarray, path: str | Path) -> None:
    """Write an image; the file appears whole or not at all.

    Args:
        image: (H, W, 3), uint8, RGB.
        path: Where to write; its suffix decides the format.

    Raises:
        KeyError: If the suffix is that of no image.
    """
    kind = Image.registered_extensions()[Path(path).suffix.lower()]
    with atomic_write(path) as file:
        Image.fromarray(image).save(file, kind)
