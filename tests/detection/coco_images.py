# Copyright (c) mmcim contributors. All rights reserved.
"""A small COCO-format folder: bright squares and discs on noise."""

import json

import numpy as np
from PIL import Image

CLASSES = ('square', 'disc')
SIDE = 128


def polygon(kind, x, y, size):
    if kind == 0:
        return [x, y, x + size, y, x + size, y + size, x, y + size]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    middle = size / 2
    points = np.stack((np.cos(angles), np.sin(angles)), 1) * middle + middle + (x, y)
    return points.flatten().tolist()


def write_coco(root, count=4):
    """Write images/*.png and train.json, val.json, which are the same."""
    (root / 'images').mkdir(parents=True)
    random = np.random.default_rng(0)
    yy, xx = np.mgrid[:SIDE, :SIDE]
    images, annotations = [], []
    for i in range(count):
        pixels = random.integers(0, 60, (SIDE, SIDE, 3))
        for kind, (left, top) in enumerate(((8, 8), (64, 60))):
            size = int(random.integers(36, 52))
            x, y = left + int(random.integers(8)), top + int(random.integers(8))
            inside = (xx >= x) & (xx < x + size) & (yy >= y) & (yy < y + size)
            if kind:
                half = size / 2
                inside = (xx - x - half) ** 2 + (yy - y - half) ** 2 <= half**2
            pixels[inside] = ((230, 60, 40), (60, 90, 240))[kind]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i,
                    category_id=kind + 1,
                    bbox=[x, y, size, size],
                    area=int(inside.sum()),
                    iscrowd=0,
                    segmentation=[polygon(kind, x, y, size)],
                )
            )
        Image.fromarray(pixels.astype(np.uint8)).save(root / f'images/{i}.png')
        images.append(dict(id=i, file_name=f'{i}.png', width=SIDE, height=SIDE))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    for split in ('train', 'val'):
        (root / f'{split}.json').write_text(json.dumps(content))
