# Copyright (c) mmcim contributors. All rights reserved.
"""Jobs in a few processes, with a live table.

A job is a list of command lines of Python programs. Each process carries out many jobs,
so that importing torch and mmpretrain is paid for once a process. This file, as a
program, is what such a process runs.
"""

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn

from mmcim_cli import end_with_parent

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
        state: 'waiting', 'running' or 'done'.
    """

    name: str
    folder: Path
    commands: list[list[str]]
    after: tuple[str, ...] = ()
    state: str = 'waiting'

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.folder / 'console.log'

    def status(self) -> str:
        """Say how far it is: the last line it printed, no heading and not indented."""
        if self.state != 'running':
            return self.state
        lines = self.log.read_text(errors='replace').splitlines()
        lines = [line for line in lines if line.strip() == line.rstrip(':') != '']
        return lines[-1] if lines else 'starting'


class Worker:
    """A process that runs jobs; it ends when its parent does.

    Args:
        threads: Of its computations.
    """

    def __init__(self, threads: int) -> None:
        self.job: Job | None = None
        self.connection, other = Pipe()
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env={**_KEEP_MEMORY, **os.environ, 'OMP_NUM_THREADS': str(threads)},
            stdin=other.fileno(),
            start_new_session=True,  # it is stopped as a whole
        )
        other.close()

    def start(self, job: Job) -> None:
        """Run a job in it."""
        job.folder.mkdir(parents=True, exist_ok=True)
        job.log.write_bytes(b'')
        self.connection.send((str(job.log), job.commands))
        self.job, job.state = job, 'running'

    def check(self) -> None:
        """Notice the end of its job.

        Raises:
            SystemExit: If the job has failed, with the end of its output.
        """
        if self.job is None:
            return
        if self.process.poll() is not None:
            printed = self.job.log.read_text(errors='replace')
            *_, text = f'\n{printed}'.rpartition('\nerror: ')
            end = '\n'.join(text.splitlines()[-15:])
            sys.exit(
                f'error: {self.job.name}: {end} (exit code {self.process.returncode})\n'
                f'Full output: {self.job.log}'
            )
        with suppress(EOFError):  # it ends, which the next call notices
            if self.connection.poll():
                self.job.state = self.connection.recv()
                self.job = None

    def stop(self) -> None:
        """Stop it, in order if it can, and all processes that it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=10)


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
    workers: list[Worker] = []
    try:
        workers += (Worker(max(1, cores // limit)) for _ in range(limit))
        with table:
            while set(shown.values()) != {'done'}:
                for worker in workers:
                    worker.check()
                start_next(jobs, workers)
                for job in jobs:
                    line = job.status()
                    table.update(rows[job.name], status=line[:width])
                    if line != shown[job.name] and not console.is_terminal:
                        console.print(f'{job.name}: {line}', markup=False, soft_wrap=True)
                    shown[job.name] = line
                time.sleep(0.5)
    finally:
        for worker in workers:
            worker.stop()


def start_next(jobs: Sequence[Job], workers: Sequence[Worker]) -> None:
    """Start the jobs that are next in the workers that are idle."""
    done = {job.name for job in jobs if job.state == 'done'}
    waiting = (job for job in jobs if job.state == 'waiting')
    ready = [job for job in waiting if done.issuperset(job.after)]
    idle = (worker for worker in workers if worker.job is None)
    for worker, job in zip(idle, ready):
        worker.start(job)


def main() -> None:
    """Run the jobs that come in."""
    sys.path.pop(0)  # the folder of this file, whose modules are those of mmcim.cli
    end_with_parent()
    connection = Connection(0)
    while True:
        try:
            log, commands = connection.recv()
        except (EOFError, ConnectionError):  # its parent has ended
            return
        with open(log, 'wb') as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        for sys.argv in commands:
            try:
                runpy.run_path(sys.argv[0], run_name='__main__')
            except SystemExit as error:
                if error.code:
                    raise
        sys.stdout.flush()
        connection.send('done')


if __name__ == '__main__':
    main()
