# Copyright (c) mmcim contributors. All rights reserved.
"""A work directory holds one run, and has one owner at a time."""

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from ..utils.errors import ConfigError
from .data_parallel import check_processes, together
from .hooks.safe_checkpoint import INTERRUPTED

_CHECKPOINT = re.compile(rf'(epoch|iter)_\d+\.pth|{re.escape(INTERRUPTED)}')


def begin(runner: Runner, stack: ExitStack) -> None:
    """Own the work directory of a training, and settle which checkpoint it starts from.

    Args:
        runner: About to train.
        stack: The work directory is given back when it unwinds.

    Raises:
        ConfigError: In all processes, if any of them must not start, or if they would
            resume from different checkpoints.
    """
    with together():
        if is_main_process():
            stack.enter_context(own(runner.work_dir))
        path = find_start(runner.work_dir, runner._load_from, runner._resume)
    if runner._resume and path is None:
        runner.logger.info(f'No checkpoint in {runner.work_dir}: start from scratch.')
    runner._load_from, runner._resume = path, runner._resume and path is not None
    check_processes(dict(resume=runner._resume and os.path.basename(str(path))))


@contextmanager
def own(work_dir: str) -> Iterator[None]:
    """Own a work directory; of several processes the main one does.

    ``.run.lock`` names host, process and start of the run; it is empty when nobody owns
    the folder. The kernel's lock on it ends with the process, whatever ends that: what a
    dead process of this host has left is taken over.

    Args:
        work_dir: An existing folder.

    Raises:
        ConfigError: If another process owns it, or one of another host did not give it
            back: nobody here knows whether that one lives.
    """
    path, host = Path(work_dir, '.run.lock'), f'host {socket.gethostname()}, '
    with open(path, 'a+') as file:
        file.seek(0)
        owner, is_free = file.read(), True
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # or a file system has no locks: then by what it says
            is_free = not owner and error.errno not in (errno.EACCES, errno.EAGAIN)
        if not (is_free and (owner or host).startswith(host)):
            raise ConfigError(
                f'{work_dir} is in use by another run ({owner}): wait until it has '
                f'ended, or give another --work-dir. If its host has died, remove {path}'
            )
        file.truncate(0)
        file.write(f'{host}process {os.getpid()}, since {datetime.now():%F %T}')
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def find_start(work_dir: str, load_from: str | None, resume: bool) -> str | None:
    """Find the checkpoint that a training starts from.

    Args:
        work_dir: Of the run.
        load_from: Checkpoint or weights that it starts from, if they are given.
        resume: Whether it resumes; without ``load_from`` from the latest checkpoint.

    Returns:
        The file; None for a start from scratch.

    Raises:
        ConfigError: If the folder has checkpoints of another run than this one, or if
            ``last_checkpoint`` names no file there.
    """
    there = checkpoints(work_dir)
    is_own = not load_from or Path(load_from).resolve().parent == Path(work_dir).resolve()
    if there and not (resume and is_own):
        raise ConfigError(
            f'{work_dir} has checkpoints of an earlier run, such as {there[0].name}: '
            'resume that by --resume, or give this run another --work-dir'
        )
    if not resume or load_from:
        return load_from
    note = Path(work_dir, 'last_checkpoint')
    name = note.read_bytes().decode(errors='replace').strip() if note.is_file() else ''
    if not name:  # a killed run may not have come to write it
        return str(there[0]) if there else None
    path = os.path.join(work_dir, os.path.basename(name))  # it may have been moved
    if not os.path.isfile(path):
        raise ConfigError(
            f'{note} names {name[:80]!r}, which is not there{another(path)}'
        )
    return path


def checkpoints(folder: str) -> list[Path]:
    """List the checkpoints in a folder that a run resumes from, the newest first."""
    found = [p for p in Path(folder).glob('*.pth') if _CHECKPOINT.fullmatch(p.name)]
    return sorted(found, key=os.path.getmtime, reverse=True)


def another(path: str) -> str:
    """Name the newest of the other checkpoints beside one, and how to resume from it."""
    for other in checkpoints(os.path.dirname(path)):
        if other.name != os.path.basename(path):
            return f'. Take another one: --resume {other}'
    return ', nor is another checkpoint; start from scratch in another --work-dir'
