# Copyright (c) mmcim contributors. All rights reserved.
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_GAP = 4
_LINE_HEIGHT = 18


def save_grid(
    panels: Mapping[str, Tensor],
    path: str | Path,
    min_side: int = 96,
    captions: Mapping[str, str] | None = None,
) -> None:
    """Write panels beside one another, a column per name and a row per image.

    The file appears whole or not at all.

    Args:
        panels (Mapping[str, Tensor]): Name -> pictures, float in [0, 1],
            (B, 3, H, W), all of one shape.
        path (str): Where to write; its suffix decides the format.
        min_side (int): Images are enlarged by the whole factor that brings their
            height to at least this many pixels. Defaults to 96.
        captions (Mapping[str, str], optional): Name -> lines below the name of a column.
    """
    labels = {
        name: f'{name}\n{(captions or {}).get(name, "")}'.strip() for name in panels
    }
    label_height = _LINE_HEIGHT * max(label.count('\n') + 1 for label in labels.values())
    columns = list(panels)
    pictures = np.stack([panels[name].cpu().numpy() for name in columns])
    pictures = (pictures.clip(0, 1) * 255).round().astype(np.uint8)
    _, rows, _, height, width = pictures.shape
    factor = max(1, -(-min_side // height))
    height, width = height * factor, width * factor

    canvas = Image.new(
        'RGB',
        (
            len(columns) * (width + _GAP) + _GAP,
            label_height + rows * (height + _GAP) + _GAP,
        ),
        'white',
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=12)
    for col, name in enumerate(columns):
        left = _GAP + col * (width + _GAP)
        draw.text((left, 2), labels[name], fill='black', font=font)
        for row in range(rows):
            picture = Image.fromarray(pictures[col, row].transpose(1, 2, 0))
            picture = picture.resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(picture, (left, label_height + row * (height + _GAP)))

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.stem}.partial{path.suffix}')
    canvas.save(partial)
    os.replace(partial, path)
