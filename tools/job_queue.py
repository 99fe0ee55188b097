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
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

_MARK = '.finished'
# glibc (others ignore these) keeps the memory of freed tensors for the next ones. By
# default it returns it to the kernel, and each step has its pages zeroed again.
_KEEP_MEMORY = dict(MALLOC_MMAP_THRESHOLD_=str(2**25), MALLOC_TRIM_THRESHOLD_=str(2**30))
_COLUMNS = ('job', 'now', 'step', '', 'images/s', 'loss', 'ETA')


@dataclass
class Job:
    """Command lines of Python programs, run in turn by one process.

    Attributes:
        name: What the table calls it; unique.
        folder: For ``console.log`` and the mark of a finished job.
        commands: File of a program, and its arguments.
        after: Names of the jobs that must have ended before.
        trainings: Work directory of each training -> its config, for the progress.
    """

    name: str
    folder: Path
    commands: list[list[str]] = field(default_factory=list)
    after: tuple[str, ...] = ()
    trainings: dict[Path, dict] = field(default_factory=dict)
    process: subprocess.Popen | None = None
    started: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether exactly these commands, with these configs, have been finished."""
        mark = self.folder / _MARK
        return mark.is_file() and mark.read_text() == self.plan

    def finish(self) -> None:
        """Mark the job as finished."""
        (self.folder / _MARK).write_text(self.plan)

    @cached_property
    def plan(self) -> str:
        """The commands and the contents of their configs."""
        words = [word for command in self.commands for word in command]
        configs = [Path(w).read_text() for w in words if w.endswith('.py')]
        return json.dumps([[w for w in words if w != '--resume'], configs])

    def start(self, threads: int) -> None:
        """Start the process. It ends by itself when this one does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.started = time.time()
        with open(self.folder / 'console.log', 'wb') as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(self.commands)],
                env={**_KEEP_MEMORY, **os.environ, 'OMP_NUM_THREADS': str(threads)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it is stopped as a whole
            )

    def progress(self) -> 'Progress | None':
        """What the newest training of the job has logged last."""
        for folder, cfg in reversed(self.trainings.items()):
            for file in sorted(folder.glob('*/vis_data/scalars.json'), reverse=True):
                if file.stat().st_mtime < self.started:
                    continue  # of an earlier run
                *lines, _ = file.read_text().split('\n')
                for record in map(json.loads, reversed(lines)):
                    if 'loss' in record:
                        batch = cfg['train_dataloader']['batch_size']
                        total = cfg['train_cfg']['max_iters']
                        return Progress(folder.name, record, total, batch)
        return None


class Progress(NamedTuple):
    """A record of a training's log, see :meth:`Job.progress`."""

    training: str
    record: dict
    total: int
    batch: int

    def cells(self) -> list[str]:
        """Format what the table shows: training, step, images/s, loss and ETA."""
        step, seconds = self.record['step'], self.record['time']
        minutes, rest = divmod(round((self.total - step) * seconds), 60)
        speed, loss = f'{self.batch / seconds:.0f}', f'{self.record["loss"]:.3f}'
        eta = f'{minutes}:{rest:02}'
        return [self.training, f'{step}/{self.total}', speed, loss, eta]


def run_jobs(jobs: Sequence[Job], console: Console, limit: int, cores: int = 1) -> None:
    """Run jobs, each as soon as those before it have ended.

    Args:
        jobs: All of them. Those that are marked as finished are not run again.
        console: Shows a live table if it is a terminal, and plain lines otherwise.
        limit: How many run at a time.
        cores: Cores of the processor, which they share.

    Raises:
        SystemExit: If a job fails, with the end of what it printed, or if the process
            that started this one ends. Whatever ends this function, all jobs are stopped.
    """
    for job in jobs:
        _ = job.plan  # read before the runs overwrite their configs with all settings
    parent, shown = os.getppid(), {}
    threads = max(1, cores // limit)
    live = Live(console=console, auto_refresh=False)
    try:
        with live if console.is_terminal else nullcontext():
            while not all(job.finished for job in jobs):
                _advance(jobs, limit, threads)
                if console.is_terminal:
                    live.update(_table(jobs), refresh=True)
                else:
                    _print_news(jobs, shown, console)
                # Under nohup it is meant to outlive its parent.
                orphan = os.getppid() != parent
                if orphan and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                    sys.exit('the process that started this one has ended')
                time.sleep(0.5)
    finally:
        _stop([job.process for job in jobs if job.process and not job.finished])


def _stop(processes: list[subprocess.Popen]) -> None:
    """End processes and their workers, so that nothing half-written is left."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        # Workers may outlive the process that started them.
        while any([_signal_group(p.pid, sign) for p in processes]):
            if time.monotonic() > deadline:
                break
            sign = 0  # only ask who is there
            for process in processes:
                process.poll()
            time.sleep(0.1)


def _signal_group(group: int, sign: int) -> bool:
    """Send a signal to a group of processes; tell whether there still is one."""
    try:
        os.killpg(group, sign)
    except ProcessLookupError:
        return False
    return True


def forget_finished(folder: Path) -> None:
    """Let all jobs below a folder run again, which earlier ones have finished."""
    for mark in folder.rglob(_MARK):
        mark.unlink()


def write_config(path: Path, base: Path, changes: dict) -> Path:
    """Write a config that inherits and says what is different.

    Args:
        path: The file to write.
        base: What it inherits from.
        changes: Dotted keys and their values.

    Returns:
        The file.
    """
    tree: dict = {'_base_': str(base)}
    for key, value in changes.items():
        *parents, last = key.split('.')
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in tree.items()))
    return path


def _advance(jobs: Sequence[Job], limit: int, threads: int) -> None:
    """Note which jobs have ended, and start those that are next."""
    running = [job for job in jobs if job.process and not job.finished]
    for job in running:
        if job.process.poll() == 0:
            job.finish()
        elif job.process.returncode is not None:
            log = job.folder / 'console.log'
            printed = '\n' + log.read_text(errors='replace')
            *_, text = printed.rpartition('\nerror: ')
            last = '\n'.join(text.splitlines()[-15:])
            code = job.process.returncode
            end = f'killed by {signal.Signals(-code).name}' if code < 0 else last
            sys.exit(f'error: {job.name}: {end}\nAll that it printed is in {log}')
    ended = {job.name for job in jobs if job.finished}
    free = limit - sum(job.name not in ended for job in running)
    ready = [
        job
        for job in jobs
        if job.process is None and job.name not in ended and ended.issuperset(job.after)
    ]
    for job in ready[:free]:
        job.start(threads)


def _table(jobs: Sequence[Job]) -> Table:
    table = Table(*_COLUMNS, box=None)
    for job in jobs:
        if job.process is None or job.finished:
            table.add_row(job.name, 'done' if job.finished else 'waiting')
        elif (progress := job.progress()) is None:
            table.add_row(job.name, 'starting')
        else:
            now, step, *rest = progress.cells()
            bar = ProgressBar(progress.total, progress.record['step'], width=20)
            table.add_row(job.name, now, step, bar, *rest)
    return table


def _print_news(jobs: Sequence[Job], shown: dict, console: Console) -> None:
    for job in jobs:
        if job.finished:
            line = f'{job.name}: done'
        elif job.process and (progress := job.progress()):
            now, step, speed, loss, eta = progress.cells()
            line = f'{job.name}: {now} {step}  {speed} images/s  loss {loss}  ETA {eta}'
        else:
            continue
        if shown.get(job.name) != line:
            shown[job.name] = line
            console.print(line, soft_wrap=True, highlight=False)


def _end_with_parent() -> None:
    """Wait for the pipe to the parent to break; then end this process and its workers."""
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
    time.sleep(10)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the commands of one job."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for command in json.loads(sys.argv[1]):
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')


if __name__ == '__main__':
    main()
