# Copyright (c) mmcim contributors. All rights reserved.
"""Jobs in a few processes, with a live table.

Each process carries out many jobs, so that importing torch and mmpretrain is paid for
once a process.
"""

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn

import mmcim_cli

# glibc (others ignore these) keeps the memory of freed tensors for the next ones. By
# default it returns it to the kernel, and each step has its pages zeroed again.
_KEEP_MEMORY = dict(MALLOC_MMAP_THRESHOLD_=str(2**25), MALLOC_TRIM_THRESHOLD_=str(2**30))


@dataclass
class Job:
    """Command lines of Python programs, run in turn by one process.

    Attributes:
        name: What the table calls it; unique.
        folder: For ``console.log``; the work directories of its trainings are in it.
        commands: File of a program, and its arguments.
        after: Names of the jobs that must have ended before.
        future: Of what it has been given to; None if it waits.
    """

    name: str
    folder: Path
    commands: list[list[str]]
    after: tuple[str, ...] = ()
    future: Future | None = None

    def start(self, pool: Executor) -> None:
        """Give it to a process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / 'console.log').write_bytes(b'')
        log = str(self.folder / 'console.log')
        self.future = pool.submit(mmcim_cli.work, self.commands, log)

    def is_done(self) -> bool:
        """Whether it has ended.

        Raises:
            SystemExit: If it has failed, with the end of what it printed.
        """
        if not (self.future and self.future.done()):
            return False
        if error := self.future.exception():
            *_, text = f'\n{self.printed()}'.rpartition('\nerror: ')
            end = '\n'.join(text.splitlines()[-15:])
            code = getattr(error, 'code', error)  # or the process was killed
            sys.exit(
                f'error: {self.name}: {end} (exit code {code})\n'
                f'All that it printed is in {self.folder}/console.log'
            )
        return True

    def printed(self) -> str:
        """All that it has printed."""
        return (self.folder / 'console.log').read_text(errors='replace')

    def status(self) -> str:
        """Say how far it is: in the last line that it has printed, unless indented."""
        if self.future is None:
            return 'waiting'
        if self.is_done():
            return 'done'
        return ['starting', *re.findall(r'^\S.*', self.printed(), re.MULTILINE)][-1]


def run_jobs(jobs: Sequence[Job], console: Console, limit: int, cores: int = 1) -> None:
    """Run jobs, each as soon as those before it have ended.

    Args:
        jobs: All of them.
        console: Shows a live table if it is a terminal, and plain lines otherwise.
        limit: How many run at a time.
        cores: Cores of the processor, which they share.

    Raises:
        SystemExit: If a job fails, with the end of what it printed. Whatever ends this
            function, all processes are stopped.
    """
    status = TextColumn('{task.fields[status]}', markup=False)
    off = not console.is_terminal
    table = Progress('{task.description}', status, console=console, disable=off)
    width = console.width - max(len(job.name) for job in jobs) - 1
    rows = {job.name: table.add_task(job.name, status='waiting') for job in jobs}
    shown = dict.fromkeys(rows, 'waiting')
    for name, value in _KEEP_MEMORY.items():
        os.environ.setdefault(name, value)
    os.environ['OMP_NUM_THREADS'] = str(max(1, cores // limit))
    # CUDA cannot be initialised again in a process that was forked.
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(limit, context, mmcim_cli.begin_worker)
    processes: set[BaseProcess] = set()  # also those that have been killed
    try:
        with table:
            while set(shown.values()) != {'done'}:
                start_next(jobs, pool, limit)
                processes.update(multiprocessing.active_children())
                for job in jobs:
                    line = job.status()
                    table.update(rows[job.name], status=line[:width])
                    if line != shown[job.name] and not console.is_terminal:
                        console.print(f'{job.name}: {line}', markup=False, soft_wrap=True)
                    shown[job.name] = line
                time.sleep(0.5)
    finally:
        stop(processes, [job.future for job in jobs if job.future])
        pool.shutdown()


def start_next(jobs: Sequence[Job], pool: Executor, limit: int) -> None:
    """Start the jobs that are next, as many as may run."""
    done = {job.name for job in jobs if job.is_done()}
    free = limit - sum(job.future is not None for job in jobs) + len(done)
    ready = [job for job in jobs if not job.future and done.issuperset(job.after)]
    for job in ready[:free]:
        job.start(pool)


def stop(processes: Iterable[BaseProcess], futures: Sequence[Future]) -> None:
    """Stop the processes of a pool, and all that they have started."""
    # First in order, so that no file is half-written; then what has not ended, or has
    # outlived the process that started it.
    for how in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, how)  # type: ignore[arg-type]
        wait(futures, timeout=12)
