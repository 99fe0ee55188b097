# Copyright (c) mmcim contributors. All rights reserved.
"""Images over the steps of a run, small enough for one page."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .runs import RunHistory

IMAGES = 40  # on a page, or two of each name and run where this is more
_LARGEST, _SIDE = 150_000, 1400  # bytes and pixels of one


class Gallery(NamedTuple):
    """Images of one name and run.

    Attributes:
        name: Of the images.
        run: Name of the run.
        images: Iteration and data URI.
        total: Number of the files, of which more may be there than images.
        damaged: Number of those that should be here and cannot be read.
    """

    name: str
    run: str
    images: list[tuple[int, str]]
    total: int
    damaged: int


def read_galleries(runs: Sequence[RunHistory], room: int) -> list[Gallery]:
    """Read images, those of one name beside each other.

    Of more than :data:`IMAGES` some are left out, evenly, never the first and last.

    Args:
        runs: In the order of the page.
        room: Characters that all images may take.
    """
    names = sorted({name for run in runs for name in run.images})
    pairs = [(name, run) for name in names for run in runs if name in run.images]
    found = [(name, run.name, sorted(run.images[name].items())) for name, run in pairs]
    most = max(2, IMAGES // max(1, len(found)))
    chosen = [_evenly(files, most) for *_, files in found]
    # Base64 takes four thirds.
    limit = min(_LARGEST, room * 3 // 4 // max(1, sum(map(len, chosen))))
    galleries = []
    for (name, run, files), some in zip(found, chosen):
        images = [(step, _webp(path, limit)) for step, path in some]
        good = [(step, uri) for step, uri in images if uri]
        galleries.append(Gallery(name, run, good, len(files), len(images) - len(good)))
    return galleries


def _evenly(files: list[tuple[int, Path]], most: int) -> list[tuple[int, Path]]:
    last, count = len(files) - 1, min(most, len(files))
    return [files[round(i * last / max(1, count - 1))] for i in range(count)]


def _webp(path: Path, limit: int) -> str:
    """Make a data URI of at most so many bytes before base64; '' if damaged."""
    try:
        with Image.open(path) as file:
            image = file.convert('RGB')
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ''
    side = _SIDE
    while True:
        image.thumbnail((side, side))
        image.save(buffer := io.BytesIO(), 'WEBP', quality=80)
        if buffer.tell() <= limit:
            return (
                f'data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}'
            )
        side = int(max(image.size) * max(0.5, 0.95 * (limit / buffer.tell()) ** 0.5))
