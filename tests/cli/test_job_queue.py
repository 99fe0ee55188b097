# Copyright (c) mmcim contributors. All rights reserved.
"""Jobs as real processes: order, progress, failures, and an end that leaves nothing."""

import io
import platform
import signal
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console

from mmcim.cli import job_queue

from .toy_run import REPO

# Tools of a job. The first argument is a file that gets one line.
NOTE = """
import sys, time
print(sys.argv[2], file=open(sys.argv[1], 'a'), flush=True)
"""
SLEEP = """
import os, subprocess, sys, time
worker = subprocess.Popen(['sleep', '600'])
print(os.getpid(), worker.pid, file=open(sys.argv[1], 'a'), flush=True)
time.sleep(600)
"""
FAIL = "import sys; print('error: this is wrong'); sys.exit(2)"
CUDA = """
import sys, torch
print(torch.cuda._is_in_bad_fork(), file=open(sys.argv[1], 'a'), flush=True)
"""
# The process that a signal is sent to.
DRIVER = """
import signal, sys
from pathlib import Path
from importlib.util import find_spec, module_from_spec
sys.path.insert(0, {repo!r})
# As the quickstart does, which needs little of it.
sys.modules['mmcim'] = module_from_spec(find_spec('mmcim'))
from rich.console import Console
from mmcim.cli.job_queue import Job, run_jobs
for sign in (signal.SIGINT, signal.SIGTERM):
    signal.signal(sign, lambda number, _: sys.exit(128 + number))
here = Path({folder!r})
command = [str(here / 'sleep.py'), str(here / 'pids')]
jobs = [Job(name, here / name, [command]) for name in 'ab']
run_jobs(jobs, Console(), limit=2)
"""
# Page faults of three steps after the first.
STEPS = """
import resource, torch
for step in range(4):
    tensors = [torch.ones(1 << 20) for _ in range(32)]
    del tensors
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    first = first if step else faults
print(faults - first)
"""


@pytest.fixture
def queue(tmp_path):
    programs = dict(note=NOTE, sleep=SLEEP, fail=FAIL, cuda=CUDA)
    for name, code in programs.items():
        (tmp_path / f'{name}.py').write_text(code)
    return job_queue


@pytest.fixture
def job(queue, tmp_path):
    def make(name, *commands, after=(), **kwargs):
        commands = [[str(tmp_path / f'{c[0]}.py'), *map(str, c[1:])] for c in commands]
        return queue.Job(name, tmp_path / name, commands, after, **kwargs)

    return make


class Shown(io.StringIO):
    """A terminal that makes a file once a text has been shown."""

    def __init__(self, path, text):
        super().__init__()
        self.path, self.text = path, text

    def write(self, text):
        if self.text in text:
            self.path.touch()
        return super().write(text)


def quiet():
    return Console(file=io.StringIO())


def wait_for(condition):
    """Wait for what another process does; far longer than it takes."""
    for _ in range(600):
        if condition():
            return True
        time.sleep(0.1)
    return False


def is_alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(') ', 1)[1][0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(path, jobs=2):
    """Processes and workers of all jobs, once they have started."""
    assert wait_for(lambda: path.exists() and path.read_text().count('\n') == jobs)
    return [int(pid) for pid in path.read_text().split()]


def test_jobs_wait_for_those_before_them(queue, job, tmp_path):
    jobs = [
        job('c', ['note', tmp_path / 'log', 'c1'], after=('a', 'b')),
        job('b', ['note', tmp_path / 'log', 'b1'], after=('a',)),
        job('a', ['note', tmp_path / 'log', 'a1'], ['note', tmp_path / 'log', 'a2']),
    ]
    queue.run_jobs(jobs, quiet(), limit=3)
    assert (tmp_path / 'log').read_text().split() == ['a1', 'a2', 'b1', 'c1']


def test_no_more_jobs_run_than_allowed(queue, job, tmp_path):
    jobs = [job(name, ['sleep', tmp_path / 'pids']) for name in 'abcd']
    workers = [queue.Worker(threads=1) for _ in range(2)]
    try:
        for _ in range(3):
            queue.start_next(jobs, workers)
        assert [job.state for job in jobs] == ['running'] * 2 + ['waiting'] * 2
    finally:
        for worker in workers:
            worker.stop()


def test_jobs_can_use_cuda_after_the_parent_has(queue, job, tmp_path):
    """A forked one could not: CUDA cannot be initialised again."""
    torch.cuda.is_available()
    queue.run_jobs([job('a', ['cuda', tmp_path / 'log'])], quiet(), limit=1)
    assert (tmp_path / 'log').read_text() == 'False\n'


def test_cores_are_shared(queue, job, tmp_path, monkeypatch):
    (tmp_path / 'note.py').write_text("import os; print(os.environ['OMP_NUM_THREADS'])")
    queue.run_jobs([job('a', ['note'])], quiet(), limit=2, cores=9)
    assert (tmp_path / 'a/console.log').read_text() == '4\n'


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='sets up glibc')
def test_memory_of_freed_tensors_is_kept(queue, job, tmp_path):
    (tmp_path / 'steps.py').write_text(STEPS)
    queue.run_jobs([job('a', ['steps'])], quiet(), limit=1)
    faults = int((tmp_path / 'a/console.log').read_text())
    assert faults < 32768  # each step has as many pages, and faulted all of them in


def test_a_failure_stops_all_and_is_reported(queue, job, tmp_path):
    jobs = [
        job('long', ['sleep', tmp_path / 'pids']),
        job('bad', ['fail'], ['note', tmp_path / 'log', 'not reached']),
        job('later', ['note', tmp_path / 'log', 'not reached'], after=('bad',)),
    ]
    with pytest.raises(SystemExit, match='error: bad: this is wrong') as error:
        queue.run_jobs(jobs, quiet(), limit=2)
    assert str(tmp_path / 'bad/console.log') in str(error.value)
    assert not (tmp_path / 'log').exists()
    started = pids(tmp_path / 'pids', jobs=1)
    assert wait_for(lambda: not any(map(is_alive, started)))


@pytest.mark.parametrize('terminal', [False, True])
def test_progress_is_the_last_line_that_a_job_prints(queue, job, tmp_path, terminal):
    code = f"""
import os, time
print('Training CIM:\\n  Images: 9')
print('Training CIM 20/200  [128 images/s]\\nNext:\\n  mmcim', flush=True)
while not os.path.exists({str(tmp_path / 'seen')!r}):
    time.sleep(0.1)
"""
    (tmp_path / 'note.py').write_text(code)
    file = Shown(tmp_path / 'seen', '20/200')
    console = Console(file=file, width=120, force_terminal=terminal)
    queue.run_jobs([job('a', ['note']), job('z', ['note'], after=('a',))], console, 1)
    line = 'Training CIM 20/200  [128 images/s]'
    if terminal:
        assert any(row.count(line) for row in file.getvalue().splitlines())
        assert 'waiting' in file.getvalue()
    else:
        shown = file.getvalue().splitlines()
        assert [row for row in shown if 'starting' not in row][:2] == [
            f'a: {line}',
            'a: done',
        ]
        assert shown[-1] == 'z: done'


@pytest.mark.parametrize(
    ('end', 'code'), [('sys.exit(2)', 2), ('os.kill(os.getpid(), 9)', -9)]
)
def test_other_jobs_end_in_order_and_are_not_blamed(queue, job, tmp_path, end, code):
    """One fails, or is killed by the kernel, while another cleans up for a while."""
    (tmp_path / 'note.py').write_text(f"""
import os, sys, time
while not os.path.exists({str(tmp_path / 'begun')!r}):
    time.sleep(0.1)
{end}
""")
    (tmp_path / 'sleep.py').write_text(f"""
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
open({str(tmp_path / 'begun')!r}, 'w').close()
try:
    time.sleep(600)
finally:
    time.sleep(1)
    print('clean', flush=True)
""")
    jobs = [job('slow', ['sleep']), job('bad', ['note'])]
    with pytest.raises(SystemExit, match=rf'^error: bad: .*\(exit code {code}\)'):
        queue.run_jobs(jobs, quiet(), limit=2)
    assert (tmp_path / 'slow/console.log').read_text() == 'clean\n'


def test_exit_code_0_is_success(queue, job, tmp_path):
    (tmp_path / 'note.py').write_text("import sys; print('fine'); sys.exit(0)")
    queue.run_jobs([job('a', ['note']), job('b', ['note'])], quiet(), limit=1)
    assert (tmp_path / 'b/console.log').read_text() == 'fine\n'


def test_job_that_is_killed_is_reported_and_its_workers_end(queue, job, tmp_path):
    """Also those that ignore SIGTERM."""
    code = SLEEP.replace('time.sleep(600)', 'os.kill(os.getpid(), 9)')
    code = code.replace("['sleep', '600']", "['sh', '-c', 'trap \"\" TERM; sleep 600']")
    (tmp_path / 'note.py').write_text(code)
    with pytest.raises(SystemExit, match=r'error: a: .*\(exit code -9\)'):
        queue.run_jobs([job('a', ['note', tmp_path / 'pids'])], quiet(), limit=1)
    started = pids(tmp_path / 'pids', jobs=1)
    assert wait_for(lambda: not any(map(is_alive, started)))


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_leave_no_process(queue, tmp_path, sign):
    code = DRIVER.format(repo=str(REPO), folder=str(tmp_path))
    driver = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE)
    started = pids(tmp_path / 'pids')
    assert len(started) == 4 and all(map(is_alive, started))
    driver.send_signal(sign)
    error = driver.communicate()[1]
    expected = -sign if sign == signal.SIGKILL else 128 + sign
    assert driver.returncode == expected and error == b''
    assert wait_for(lambda: not any(map(is_alive, started)))
