# Copyright (c) mmcim contributors. All rights reserved.
"""Processes that are stopped, killed or hang, and what is left of them."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest

from mmcim.checkpoints import load_checkpoint

from .test_job_queue import is_alive, wait_for
from .test_train import same
from .toy_run import TOOLS, environment, run_forked, run_tool

pytestmark = pytest.mark.slow

EPOCHS = ['train_cfg.max_epochs=4000', 'param_scheduler.end=4000']
WORKERS = 'train_dataloader.num_workers=1'


@pytest.fixture
def two(toy, tmp_path):
    """Start two processes with a worker each; gives them once they train."""
    started = []

    def start(*options, until=' images/s'):
        command = [TOOLS / 'dist_train.sh', toy.config, '2', '--no-validate']
        command += ['--work-dir', tmp_path / 'run', *options]
        process = subprocess.Popen(
            list(map(str, [*command, '--cfg-options', WORKERS, *EPOCHS])),
            env=environment(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if until in line:
                return process
        pytest.fail(''.join(lines))

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def descendants(pid):
    """All processes that a process has started, in turn."""
    text = subprocess.run(['ps', '-eo', 'pid=,ppid='], capture_output=True, text=True)
    parents = dict(map(int, line.split()) for line in text.stdout.splitlines())
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_processes_leave_together_and_resume_exactly(two, toy, tmp_path, number):
    """The signal reaches torchrun, ranks and, by their group, the loaders' workers."""
    process = two()
    ours, start = descendants(process.pid), time.monotonic()
    process.send_signal(number)
    output = process.communicate()[0]
    assert time.monotonic() - start < 60  # seconds, on a machine that others use
    assert process.returncode == 128 + number
    assert output.count(f'Stopped by {number.name} after ') == 1, output
    assert 'error: ' not in output and 'Traceback' not in output
    assert not any(map(is_alive, ours))
    done = int(re.search(r'after (\d+) iterations', output)[1])
    last = (tmp_path / 'run/last_checkpoint').read_text()
    assert load_checkpoint(last)['meta']['iter'] == done
    resumed = two('--resume', until=f'iteration {done} of ')
    resumed.send_signal(signal.SIGKILL)


def test_no_process_outlives_a_killed_launcher(two):
    process = two()
    # Two processes and a worker; between two epochs there is none.
    assert wait_for(lambda: len(descendants(process.pid)) >= 4)
    ours = descendants(process.pid)
    process.kill()
    assert wait_for(lambda: not any(map(is_alive, ours)))


def test_second_start_is_refused(two, toy, tmp_path):
    process = two()
    arguments = ['--work-dir', tmp_path / 'run']
    cases = {
        'second': ['train.py', toy.config, *arguments],
        'second_resumed': ['train.py', toy.config, *arguments, '--resume'],
    }
    before = (tmp_path / 'run/toy.py').read_text()
    for result in run_forked(cases, cwd=tmp_path).values():
        assert result.code == 2
        assert f'{tmp_path}/run is in use by another run (host ' in result.output
    assert (tmp_path / 'run/toy.py').read_text() == before
    assert process.poll() is None


def test_interrupted_run_equals_a_whole_one(toy, tmp_path):
    """With two workers, whom the signal reaches as well."""
    stop = """
import os, signal
from mmengine.runner import Runner
call_hook = Runner.call_hook
def counted(self, name, **kwargs):
    call_hook(self, name, **kwargs)
    if name == 'before_train_iter' and self.iter == 6:
        os.killpg(0, signal.SIGTERM)
Runner.call_hook = counted
os.setpgid(0, 0)
"""
    arguments = ['train.py', toy.config, '--work-dir']
    cases = dict(
        whole=[*arguments, tmp_path / 'whole'],
        cut=[*arguments, tmp_path / 'cut'],
        resumed=[*arguments, tmp_path / 'cut', '--resume'],
        beside=[*arguments, tmp_path / 'cut'],
    )
    results = run_forked(cases, cwd=tmp_path, before=dict(cut=stop))
    assert results['cut'].code == 128 + signal.SIGTERM, results['cut'].output
    assert 'iteration 7 of 12' in results['resumed'].output
    whole, cut = (
        load_checkpoint(tmp_path / f'{n}/epoch_3.pth') for n in ('whole', 'cut')
    )
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(whole[key], cut[key]), key
    names = [{p.name for p in (tmp_path / n).glob('*.*')} for n in ('whole', 'cut')]
    assert names[0] == names[1]
    assert results['beside'].code == 2
    assert 'has checkpoints of an earlier run' in results['beside'].output


def test_full_disk_names_the_file_and_the_run_resumes(toy, tmp_path):
    """A limit on the size of files stands in for the disk."""
    limit = """
import resource
from mmcim.engine.hooks import SafeCheckpointHook
save = SafeCheckpointHook._save_checkpoint_with_step
def full(self, runner, step, meta):
    if step == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
    save(self, runner, step, meta)
SafeCheckpointHook._save_checkpoint_with_step = full
"""
    run = ['train.py', toy.config, '--work-dir', tmp_path / 'run']
    cases = dict(full=run, resumed=[*run, '--resume'])
    results = run_forked(cases, cwd=tmp_path, before=dict(full=limit))
    assert results['full'].code == 2, results['full'].output
    path = tmp_path / 'run/epoch_2.pth'
    assert f'error: cannot write {path}: File too large' in results['full'].output
    assert results['resumed'].code == 0, results['resumed'].output
    assert 'iteration 4 of 12' in results['resumed'].output


def test_hanging_loader_ends_the_run(toy, tmp_path):
    hang = """
import time
from mmcim.engine.seeding import SeededDataset
SeededDataset.__getitem__ = lambda *args: time.sleep(600)
"""
    options = ['--cfg-options', 'env_cfg.dist_cfg.timeout=5']
    cases = dict(hang=['train.py', toy.config, '--work-dir', tmp_path / 'run', *options])
    start = time.monotonic()
    result = run_forked(cases, cwd=tmp_path, before=dict(hang=hang))['hang']
    assert result.code == 1
    assert 'DataLoader timed out after 5 seconds' in result.output
    assert time.monotonic() - start < 120


def test_hanging_rank_ends_the_run(toy, tmp_path, monkeypatch):
    """It sleeps in its loop; the other one waits for it."""
    hook = tmp_path / 'hang_hook.py'
    hook.write_text("""
import time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class HangHook(Hook):
    def before_train_iter(self, runner, *args, **kwargs):
        if runner.rank == 1 and runner.iter == 2:
            time.sleep(600)
""")
    config = tmp_path / 'hang.py'
    config.write_text(
        f'_base_ = {str(toy.config)!r}\n'
        "custom_imports = dict(imports=['mmcim', 'hang_hook'])\n"
        "custom_hooks = [dict(type='HangHook')]\n"
        'env_cfg = dict(dist_cfg=dict(timeout=10))\n'
    )
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{os.environ.get("PYTHONPATH", "")}')
    start = time.monotonic()
    result = run_tool(TOOLS / 'dist_train.sh', config, 2, cwd=tmp_path)
    assert result.code != 0
    assert time.monotonic() - start < 180
    assert 'imed out' in result.output, result.output


def test_nodes_without_a_common_folder_validate(toy, tmp_path):
    """Two nodes of a process each, in folders of their own."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        meet = dict(NNODES='2', MASTER_ADDR='127.0.0.1', PORT=str(free.getsockname()[1]))
    nodes = []
    for rank in range(2):
        (tmp_path / str(rank)).mkdir()
        command = [TOOLS / 'dist_train.sh', toy.config, '1', '--work-dir', 'run']
        options = ['--cfg-options', 'train_cfg.max_epochs=1', 'param_scheduler.end=1']
        nodes.append(
            subprocess.Popen(
                list(map(str, command + options)),
                env=environment() | meet | dict(NODE_RANK=str(rank)),
                cwd=tmp_path / str(rank),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [node.communicate()[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert 'accuracy/top1' in outputs[0]
    assert not list(tmp_path.glob('*/.dist_test'))
