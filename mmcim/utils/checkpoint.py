# Copyright (c) mmcim contributors. All rights reserved.
"""Loading checkpoints without ever running code that they bring along.

A checkpoint is a pickle, and a pickle may call anything. ``torch.load`` can refuse
that (``weights_only=True``), but mmengine falls back to the unsafe way with a warning
when it does, and lets ``getattr`` through. What its own checkpoints hold beyond tensors
and plain containers is known, so that just this can be let through.
"""

import os
import re
import zipfile
from argparse import Namespace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from .errors import ConfigError

# What mmengine's log history can compute; stored as getattr(HistoryBuffer, name).
_STATISTICS = ('min', 'max', 'current', 'mean')
_ARRAY_TYPES = ('bool', 'uint8', 'int8', 'int16', 'int32', 'int64')
_ARRAY_TYPES += ('uint16', 'uint32', 'uint64', 'float16', 'float32', 'float64')


def _statistics_of_history(owner: type, name: str) -> Any:
    """Stand in for a checkpoint's ``getattr``: HistoryBuffer's methods and no more."""
    if owner is HistoryBuffer and name in _STATISTICS:
        return getattr(owner, name)
    raise UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed')


def safe_globals() -> list:
    """List what checkpoints hold beyond tensors and plain containers.

    Those of mmengine hold logs and numpy values; those of timm, BEiT, MAE and DeiT the
    arguments of their programs, whose container, too, runs nothing when it is unpickled.

    Returns:
        list: For :func:`torch.serialization.safe_globals`.
    """
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    # numpy renamed the module, and old checkpoints carry the old name.
    arrays = [
        (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
        for name in ('_reconstruct', 'scalar')
        for core in ('_core', 'core')
    ]
    dtypes = [type(np.dtype(name)) for name in _ARRAY_TYPES]
    return [
        HistoryBuffer,
        Namespace,
        (_statistics_of_history, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *arrays,
        *dtypes,
    ]


def load_checkpoint(filename: str | Path, map_location: Any = 'cpu') -> dict:
    """Load a checkpoint of mmengine, or a state dict, as data and never as code.

    Args:
        filename (str | Path): A local file.
        map_location (Any): See ``torch.load``. Defaults to 'cpu'.

    Returns:
        dict: What is in the file. A config's text in ``meta['config']``, as mmengine
        before 0.3 has it, is left out: mmengine would execute it when it resumes.

    Raises:
        ConfigError: If the file is missing, damaged, or wants to run code.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise ConfigError(f'checkpoint {filename} does not exist')
    check_integrity(path)
    try:
        with torch.serialization.safe_globals(safe_globals()):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen types for a damaged file
        refused = re.search(r'(?:GLOBAL |getattr\().*', str(error))
        if isinstance(error, UnpicklingError) and refused:
            # torch's own advice is to load it unsafely.
            raise ConfigError(
                f'checkpoint {filename} holds more than tensors and plain values and '
                'was not loaded, because unpickling it could run any code (it asks for '
                f'{refused[0]}). If you trust where it comes from, open it once by '
                'torch.load(FILE, weights_only=False), and write the dict of tensors '
                'that is in it, alone, by torch.save'
            ) from error
        raise ConfigError(
            f'checkpoint {filename} is damaged or no checkpoint at all: {error}'
        ) from error
    if isinstance(content, dict) and isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)
    return content


def check_integrity(path: str | Path) -> None:
    """Compare the contents of a checkpoint with the checksums that are in it.

    ``torch.save`` writes a zip file, which has a CRC32 of each part. ``torch.load`` does
    not look at them, so that a flipped bit becomes another weight.

    Args:
        path (str | Path): A local file. One that is no zip file has no checksums.

    Raises:
        ConfigError: If any part has changed since it was written.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except Exception as error:  # zipfile raises a dozen types for a damaged file
        raise ConfigError(f'checkpoint {path} is damaged: {error}') from error
    if damaged is not None:
        raise ConfigError(
            f'checkpoint {path} is damaged: {damaged} in it does not match its checksum. '
            'Copy or download it again, or take another checkpoint'
        )


def use_safe_loading() -> None:
    """Make mmengine load all local checkpoints by :func:`load_checkpoint`.

    That is what resuming, ``load_from`` and ``init_cfg=dict(type='Pretrained', ...)``
    use.
    """

    # mmengine prints the second part of the function's name as that of the backend.
    def load_from_local(filename: str, map_location: Any = None) -> dict:
        return load_checkpoint(filename, map_location)

    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
