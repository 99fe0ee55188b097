# Copyright (c) mmcim contributors. All rights reserved.
"""Files, and lines of files, that are there completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import yaml

from .errors import ConfigError


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file that takes its name only once it is complete and on the disk.

    It is written beside its final place under a hidden name, synchronised and renamed.
    A reader, or a run after a crash, sees the old file or the new one. After an
    exception nothing of the new one remains.

    Args:
        path: The local file to write or replace. Missing parent folders
            are made.

    Yields:
        The file to write to.

    Raises:
        ConfigError: If it cannot be written, for example since the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise
    # The new name is an entry of the folder, which has to reach the disk as well.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def append_line(path: str | os.PathLike, line: str) -> None:
    """Append a line to a file in one piece, whoever else does so at the same time.

    Args:
        path: A local file, which is made if it is missing.
        line: Without its end.

    Raises:
        ConfigError: If it cannot be written, for example since the disk is full.
    """
    try:
        with open(path, 'ab', buffering=0) as file:
            file.write(f'{line}\n'.encode(errors='backslashreplace'))
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str | os.PathLike, error: OSError) -> ConfigError:
    return ConfigError(
        f'cannot write {path}: {error.strerror}. What was there before is whole: make '
        'room, or remove the cause, and run the same again; a training resumes by '
        '--resume'
    )


def remove_stale_files(folder: str | Path) -> None:
    """Remove what a killed process left half-written by :func:`atomic_write`.

    Args:
        folder: The folder to clean; only its own files, not those below.
    """
    for path in Path(folder).glob('.*.[0-9]*.tmp'):
        path.unlink(missing_ok=True)


def refuse_code(path: str | Path) -> None:
    """Refuse a file that mmengine would read by running what stands in it.

    Args:
        path: An annotation file or a config. Only YAML files are opened, local ones.

    Raises:
        ConfigError: If it is a pickle, or a YAML file with tags of Python objects.
    """
    suffix = Path(path).suffix.lower()
    if suffix in ('.pkl', '.pickle'):
        raise ConfigError(f'{path} is a pickle, which may run code: convert it to JSON')
    if suffix in ('.yml', '.yaml') and os.path.isfile(path):
        try:
            yaml.safe_load(Path(path).read_bytes())
        except yaml.YAMLError as error:
            raise ConfigError(
                f'{path} is no YAML of plain values; others may run code: {error}'
            ) from error
