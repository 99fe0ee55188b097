# Copyright (c) mmcim contributors. All rights reserved.
"""Image files of several shapes and modes, on which two readers are compared."""

from pathlib import Path

import numpy as np
from PIL import Image

# Suffix and Pillow's mode; every other one is upright.
_SAMPLES = [('jpg', 'RGB'), ('png', 'RGB'), ('jpg', 'L'), ('png', 'P'), ('png', 'I;16')]
_SAMPLES += [('png', 'RGBA'), ('jpg', 'CMYK')]
_ORIENTATION = 0x0112  # of EXIF


def write_samples(folder: Path) -> list[str]:
    """Write images of smooth random colours, which cameras would store rotated.

    Args:
        folder: A new one.

    Returns:
        The files, no two of which show the same.
    """
    folder.mkdir()
    random, exif = np.random.default_rng(0), Image.Exif()
    exif[_ORIENTATION] = 6  # a quarter turn
    files = []
    for number, (suffix, mode) in enumerate(_SAMPLES):
        colours = random.integers(0, 256, (5, 6, 3), np.uint8)
        size = (600, 400) if number % 2 else (400, 600)
        image = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
        grey = image.convert('L')
        if mode == 'I;16':
            image = Image.fromarray(np.asarray(grey, np.uint16) * 257)
        elif mode == 'RGBA':
            image.putalpha(grey)
        else:
            image = image.convert(mode)
        files.append(str(folder / f'{number}.{suffix}'))
        image.save(files[-1], exif=exif)
    return files
