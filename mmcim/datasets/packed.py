# Copyright (c) mmcim contributors. All rights reserved.
"""A folder of images in one file, for file systems that cannot serve so many small ones.

The file is an LMDB database: path below the folder, quoted as in a URL -> the image's
bytes. The images are at paths below the file, as if it was the folder, as in
``train.lmdb/cat/1.jpg``. ``mmcim pack`` writes it.
"""

import json
import os
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

from mmengine.fileio import LmdbBackend

LISTING = '.listing'
"""Key of the paths of all images and of all folders; hidden files are neither."""

_backend = cache(partial(LmdbBackend, subdir=False))
os.register_at_fork(before=_backend.cache_clear)  # a loader's worker opens its own


def locate(path: str | Path) -> tuple[str, str]:
    """Divide a path into that of a packed folder and the rest; two '' for other paths."""
    stem, suffix, inner = os.path.join(path, '').partition(f'.lmdb{os.sep}')
    packed = stem + suffix.rstrip(os.sep)
    is_packed = suffix and os.path.isfile(packed)
    return (packed, inner.rstrip(os.sep)) if is_packed else ('', '')


def key_of(name: str) -> str:
    """Give the key of an image, or of the listing; mmengine takes ASCII alone."""
    return quote(os.fsencode(name))


def read_packed(packed: str, inner: str) -> bytes:
    """Read what is at a path in a packed folder; nothing if there is no such image."""
    return _backend(packed).get(key_of(inner)) or b''


def list_packed(packed: str, inner: str) -> list[list[str]]:
    """Give all images, and all folders, below one of a packed folder, by paths there."""
    top = os.path.join(inner, '') if inner else ''
    every = json.loads(read_packed(packed, LISTING) or '[[], []]')
    return [[n.removeprefix(top) for n in part if n.startswith(top)] for part in every]
