# Copyright (c) mmcim contributors. All rights reserved.
"""Work directories as a training leaves them, without a training."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_lines(path: Path, *lines: dict, broken: str = '') -> None:
    """Write JSON lines, and behind them what a killed process left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines) + broken)


def write_scalars(run: Path, *lines: dict, session='20261126_130000', broken='') -> None:
    write_lines(run / session / 'vis_data/scalars.json', *lines, broken=broken)


def write_image(run: Path, name: str, image, session='20261126_130000') -> Path:
    path = run / session / 'vis_data/vis_image' / f'{name}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def trained(*iterations: int, **values) -> list[dict]:
    """Training lines as mmengine's LoggerHook writes them."""
    return [
        dict(loss=1 / i, lr=1e-3, time=0.5, data_time=0.1, iter=i, step=i) | values
        for i in iterations
    ]


def start(iteration=0, event='start', **facts) -> dict:
    return dict(time='2026-11-26T13:00:00+00:00', iter=iteration, event=event, **facts)


def photo(seed: int, height=700, width=900) -> np.ndarray:
    """Noise on structure, as hard to compress as a photo with much texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / 40 + seed) + np.cos(y / 25) + np.sin((x + y) / 90)
    image = 128 + 30 * waves[..., None] + rng.normal(0, 25, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8)
