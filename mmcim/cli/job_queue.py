# Copyright (c) mmcim contributors. All rights reserved.
"""Jobs in processes of their own, a few at a time, with a live table.

Each job is a process that runs command lines of Python programs one after another, so
that importing torch and mmpretrain is paid for once a job. This file, as a program, is
what such a process runs.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn

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
    """

    name: str
    folder: Path
    commands: list[list[str]]
    after: tuple[str, ...] = ()
    process: subprocess.Popen | None = None

    def start(self, threads: int) -> None:
        """Start the process. It ends by itself when this one does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / 'console.log', 'wb') as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(self.commands)],
                env={**_KEEP_MEMORY, **os.environ, 'OMP_NUM_THREADS': str(threads)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it is stopped as a whole
            )

    def poll(self) -> int | None:
        """Exit code of the process; None if it has not started or still runs.

        Raises:
            SystemExit: If the job has failed, with the end of what it printed.
        """
        code = self.process.poll() if self.process else None
        if code:
            *_, text = f'\n{self.printed()}'.rpartition('\nerror: ')
            end = '\n'.join(text.splitlines()[-15:])
            sys.exit(
                f'error: {self.name}: {end} (exit code {code})\n'
                f'All that it printed is in {self.folder}/console.log'
            )
        return code

    def printed(self) -> str:
        """All that it has printed."""
        return (self.folder / 'console.log').read_text(errors='replace')

    def status(self) -> str:
        """Say how far it is: in the last line that it has printed, unless indented."""
        if self.process is None:
            return 'waiting'
        if self.process.poll() == 0:
            return 'done'
        lines = [
            line for line in self.printed().splitlines() if line.strip() == line != ''
        ]
        return lines[-1] if lines else 'starting'


def run_jobs(jobs: Sequence[Job], console: Console, limit: int, cores: int = 1) -> None:
    """Run jobs, each as soon as those before it have ended.

    Args:
        jobs: All of them.
        console: Shows a live table if it is a terminal, and plain lines otherwise.
        limit: How many run at a time.
        cores: Cores of the processor, which they share.

    Raises:
        SystemExit: If a job fails, with the end of what it printed. Whatever ends this
            function, all jobs are stopped.
    """
    status = TextColumn('{task.fields[status]}', markup=False)
    off = not console.is_terminal
    table = Progress('{task.description}', status, console=console, disable=off)
    width = console.width - max(len(job.name) for job in jobs) - 1
    rows = {job.name: table.add_task(job.name, status='waiting') for job in jobs}
    shown = dict.fromkeys(rows, 'waiting')
    try:
        with table:
            while set(shown.values()) != {'done'}:
                start_next(jobs, limit, max(1, cores // limit))
                for job in jobs:
                    line = job.status()
                    table.update(rows[job.name], status=line[:width])
                    if line != shown[job.name] and not console.is_terminal:
                        console.print(f'{job.name}: {line}', markup=False, soft_wrap=True)
                    shown[job.name] = line
                time.sleep(0.5)
    finally:
        started = [job.process for job in jobs if job.process]
        for process in started:
            # On which it ends in order, with its workers.
            process.stdin.close()  # type: ignore[union-attr]
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=12)
            # What does not end, or has outlived the process that started it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start_next(jobs: Sequence[Job], limit: int, threads: int) -> None:
    """Start the jobs that are next, as many as may run."""
    ended = {job.name for job in jobs if job.poll() == 0}
    free = limit - sum(job.process is not None for job in jobs) + len(ended)
    waiting = [job for job in jobs if job.process is None]
    ready = [job for job in waiting if ended.issuperset(job.after)]
    for job in ready[:free]:
        job.start(threads)


def _end_with_parent() -> None:
    """Wait for the pipe to the parent to break; then end this process and its workers."""
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)  # orderly, so that no file is half-written
    time.sleep(10)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the commands of one job."""
    sys.path.pop(0)  # the folder of this file, whose modules are those of mmcim.cli
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for command in json.loads(sys.argv[1]):
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')


if __name__ == '__main__':
    main()
