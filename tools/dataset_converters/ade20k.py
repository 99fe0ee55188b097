#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
r"""Unpack ADE20K (SceneParsing, 150 classes) as configs/segmentation wants it.

    python tools/dataset_converters/ade20k.py ADEChallengeData2016.zip --out data/ade20k

The zip is http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip. Each
label map is decoded and its range checked. Run again after an interruption: what is there
and whole is kept.
"""

import argparse
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from mmengine.utils import track_iter_progress

from mmcim.datasets.label_maps import (
    SUFFIXES,
    check_pairs,
    prepare_folder,
    read_labels,
    read_picture,
)
from mmcim.utils import ConfigError, atomic_write, run_cli

_CLASSES = 150
_MEMBER = re.compile(r'(?:.*/)?(images|annotations)/(training|validation)/([^/]+)')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('zip', type=Path, help='ADEChallengeData2016.zip')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    parser.add_argument(
        '--counts',
        type=int,
        nargs=2,
        default=(20210, 2000),
        metavar=('TRAINING', 'VALIDATION'),
        help='how many pictures the zip must hold. Default: 20210 2000',
    )
    return parser.parse_args(argv)


def members_of(archive: zipfile.ZipFile) -> dict[tuple[str, str], dict[str, str]]:
    """Find the data in the zip: (kind, split) -> name without suffix -> member."""
    members = {
        (kind, split): {} for kind in SUFFIXES for split in ('training', 'validation')
    }
    for member in archive.namelist():
        match = _MEMBER.fullmatch(member)
        # Finder of macOS adds hidden files to zips.
        if match and not match[3].startswith('.') and '__MACOSX' not in member:
            kind, split, file = match.groups()
            path = Path(file)
            if path.suffix == SUFFIXES[kind]:
                members[kind, split][path.stem] = member
    return members


def is_there(path: Path, info: zipfile.ZipInfo) -> bool:
    """Tell whether a file is the zip's member, complete."""
    return (
        path.is_file()
        and path.stat().st_size == info.file_size
        and zlib.crc32(path.read_bytes()) == info.CRC
    )


def unpack_pair(
    archive: zipfile.ZipFile, members: dict[str, str], paths: dict[str, Path]
) -> int:
    """Unpack a picture and its label map, unless both are there.

    Args:
        archive: The zip.
        members: 'images' and 'annotations' -> member of the zip.
        paths: The same -> file to write.

    Returns:
        How many files were written.

    Raises:
        ConfigError: If one of them is damaged or they do not fit.
    """
    if all(is_there(paths[kind], archive.getinfo(members[kind])) for kind in SUFFIXES):
        return 0
    data = {kind: archive.read(members[kind]) for kind in SUFFIXES}
    labels = read_labels(data['annotations'], members['annotations'], _CLASSES)
    read_picture(data['images'], members['images'], labels)
    for kind in SUFFIXES:
        with atomic_write(paths[kind]) as file:
            file.write(data[kind])
    return len(SUFFIXES)


def main(argv: Sequence[str] | None = None) -> None:
    """Unpack and check."""
    args = parse_args(argv)
    if not args.zip.is_file():
        raise ConfigError(f'{args.zip} does not exist')
    try:
        with zipfile.ZipFile(args.zip) as archive:
            members = members_of(archive)
            names = {
                split: check_pairs(
                    set(members['images', split]),
                    set(members['annotations', split]),
                    f'{args.zip}, {split}',
                    count,
                )
                for split, count in zip(('training', 'validation'), args.counts)
            }
            for split in names:
                prepare_folder(args.out, split, names[split])
            pairs = [(split, name) for split in names for name in names[split]]
            written = 0
            for split, name in track_iter_progress(pairs):
                written += unpack_pair(
                    archive,
                    {kind: members[kind, split][name] for kind in SUFFIXES},
                    {
                        kind: args.out / kind / split / (name + suffix)
                        for kind, suffix in SUFFIXES.items()
                    },
                )
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ConfigError(
            f'{args.zip} is damaged or not completely downloaded: {error}'
        ) from error
    numbers = ' and '.join(f'{len(names[split])} {split}' for split in names)
    print(
        f'{args.out}: {numbers} pictures with labels 0 to {_CLASSES}; '
        f'{written} files written, {2 * len(pairs) - written} were there'
    )


if __name__ == '__main__':
    run_cli(main)
