# Copyright (c) mmcim contributors. All rights reserved.
"""An image file of panels with headings."""

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from ..utils.files import atomic_write

_GAP = 4
_LINE_HEIGHT = 18


def save_grid(panels: Mapping[str, Tensor], path: str | Path, min_side: int = 96) -> None:
    """Write panels beside one another, a column per name and a row per image.

    The file appears whole or not at all.

    Args:
        panels: Heading, of one line or more -> images, float in [0, 1], (B, 3, H, W),
            all of one shape.
        path: Where to write; its suffix decides the format.
        min_side: Images are enlarged by the whole factor that brings their height to at
            least this many pixels.

    Raises:
        KeyError: If the suffix is that of no image.
    """
    images = torch.stack(list(panels.values()), dim=1).flatten(0, 1).cpu()
    factor = max(1, -(-min_side // images.size(2)))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    grid = make_grid(images, nrow=len(panels), padding=_GAP, pad_value=1)
    grid = to_pil_image((grid.clamp(0, 1) * 255).round().byte())

    top = _LINE_HEIGHT * max(heading.count('\n') + 1 for heading in panels)
    canvas = Image.new('RGB', (grid.width, top + grid.height), 'white')
    canvas.paste(grid, (0, top))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12)
    for column, heading in enumerate(panels):
        left = _GAP + column * (images.size(3) + _GAP)
        draw.text((left, 2), heading, fill='black', font=font)

    kind = Image.registered_extensions()[Path(path).suffix.lower()]
    with atomic_write(path) as file:
        canvas.save(file, kind)
