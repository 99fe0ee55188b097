# Copyright (c) mmcim contributors. All rights reserved.
r"""Pack a folder of images into one file, for file systems slow with small files.

The file serves wherever a folder of images does, as ``data_root`` or below it. Paths,
order, labels and seeds are those of the folder: a training can change over and resume.

Example: mmcim pack data/imagenet data/imagenet.lmdb
         mmcim train CONFIG --cfg-options \
             train_dataloader.dataset.data_root=data/imagenet.lmdb
"""

import argparse
import json
from pathlib import Path
from typing import Any

import lmdb

from ..datasets import list_images
from ..datasets.inspect import refuse_unreadable
from ..datasets.packed import LISTING, key_of
from ..utils import atomic_write
from ..utils.terminal import track


def run(args: argparse.Namespace) -> None:
    """Pack.

    Args:
        args: The command line.

    Raises:
        ConfigError: If there are no images, one is unreadable, or the file cannot be
            written.
    """
    listing = list_images(args.folder)
    paths = {name: Path(args.folder, name) for name in listing.files}
    refuse_unreadable(map(str, paths.values()))
    # No space is taken for the size; the file is synchronised once it is complete.
    options: dict[str, Any] = dict(subdir=False, lock=False, sync=False, map_size=2**42)

    def put(name: str, content: bytes) -> None:
        with packed.begin(write=True) as transaction:
            transaction.put(key_of(name).encode(), content)

    with atomic_write(args.out) as file, lmdb.open(file.name, **options) as packed:
        for name, path in track(paths.items(), f'Packing {args.folder}'):
            put(name, path.read_bytes())
        put(LISTING, json.dumps(listing[:2]).encode())
    print(f'wrote {args.out}: {listing}')
