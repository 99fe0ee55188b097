#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Carry out the runs of runs.yaml that results.jsonl lacks, and write their lines.

    python .dev/evidence/run.py --jobs 2        # resumes what was interrupted

Each job has one thread and computes in float32, and the cost of a row is counted in
steps, so that other programs on the machine, or a GPU (`--gpu`), change nothing but the
date. The images lie in data/imagenette64, which
resize_images.py makes, and the tokenizer in weights/vqvae_f4_512.pt.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any

import torch
import yaml
from mmengine.config import Config

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
RESULTS = HERE / 'results.jsonl'
WORK = Path('work_dirs/evidence')
PRECISION = ['optim_wrapper.precision=float32']
TRIAL_SEED = 10
_lock = Lock()
slots = Semaphore()  # of processes at a time


def found() -> dict[tuple[str, str, int], float]:
    """Run, task and seed of the results that are there -> value."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    results = map(json.loads, lines)
    return {(r['run'], r['task'], r['seed']): r.get('value', 0) for r in results}


def machine() -> dict[str, Any]:
    """The machine and the versions, for a line of results."""
    info = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    names = [x.split(':')[1].strip() for x in info.splitlines() if 'model name' in x]
    commit = ['git', 'rev-parse', '--short', 'HEAD']
    return dict(
        machine=f'{names[0] if names else platform.machine()}, {os.cpu_count()} cores, '
        f'{torch.backends.cpu.get_cpu_capability()}',
        python=platform.python_version(),
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU',
        torch=torch.__version__,
        commit=subprocess.run(
            commit, **dict(cwd=REPO, capture_output=True, text=True)
        ).stdout.strip(),
        date=time.strftime('%Y-%m-%d'),
    )


def call(words: list[str], preset: Path, log: Path) -> tuple[str, float]:
    """Run a command of mmcim with one thread; the command and its CPU seconds."""
    env = dict(os.environ, MMCIM_PRESET=str(preset.absolute()), OMP_NUM_THREADS='1')
    with slots, open(log, 'a') as file:
        process = subprocess.Popen(
            [sys.executable, 'mmcim_cli.py', *words],
            **dict(cwd=REPO, env=env, stdout=file, stderr=file),
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f'mmcim {" ".join(words)} failed; see {log}')
    return f'mmcim {" ".join(words)}', usage.ru_utime + usage.ru_stime


def record(**line: Any) -> None:
    """Add a line of results."""
    with _lock, open(RESULTS, 'a') as file:
        file.write(json.dumps({**line, **machine()}) + '\n')
    print(line, flush=True)


class Run:
    """A row: its pre-training, and what it is evaluated by.

    Args:
        name: Its name in runs.yaml.
        plan: What runs.yaml has.
    """

    def __init__(self, name: str, plan: dict[str, Any]) -> None:
        self.name, self.plan, self.settings = name, plan, plan['runs'][name]
        self.folder = WORK / name
        self.preset = self.folder / 'preset.py'

    def carry_out(self) -> None:
        """Do all that is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {**self.settings}
        for key in ('config', 'tasks', 'options'):
            values.pop(key, None)
        lines = [f'_base_ = {str(HERE / self.plan["preset"])!r}']
        lines += [f'{key} = {value!r}' for key, value in values.items()]
        self.preset.write_text('\n'.join(lines) + '\n')
        self.pretrain()
        tasks = [
            task
            for task, how in self.plan['tasks'].items()
            if not how.get('only') or task in self.settings.get('tasks', [])
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.carry_out_task, tasks))

    @property
    def backbone(self) -> Path:
        """What pre-training writes last."""
        return self.folder / f'iter_{self.settings["max_iters"]}_backbone.safetensors'

    def pretrain(self) -> None:
        """Pre-train, if it has not been done."""
        if self.backbone.is_file():
            return
        config = self.settings['config']
        words = ['train', f'configs/images/{config}.py', '--work-dir', str(self.folder)]
        resumed = any(self.folder.glob('*.pth'))
        words += ['--resume'] * resumed
        words += ['--cfg-options', *PRECISION, *self.settings.get('options', [])]
        command, seconds = call(words, self.preset, self.folder / 'console.log')
        text = Config.fromfile(self.folder / f'{config}.py').pretty_text
        sha = hashlib.sha256(text.encode()).hexdigest()[:12]
        cost = dict(max_iters=self.settings['max_iters'], config_sha256=sha)
        cost |= {} if resumed else dict(cpu_seconds=round(seconds))
        if (self.name, 'pretrain', 0) not in found():
            record(run=self.name, task='pretrain', seed=0, command=command, **cost)

    def carry_out_task(self, task: str) -> None:
        """Evaluate with all seeds, by the best of the task's trials."""
        how, best = self.plan['tasks'][task], []
        trials = how['trials'] if self.name in how.get('tuned', []) else []
        with ThreadPoolExecutor() as pool:
            jobs = [
                pool.submit(self.evaluate, f'{task}_trial{i}', how, TRIAL_SEED, trial)
                for i, trial in enumerate(trials)
            ]
            if tried := [job.result() for job in jobs]:
                best = trials[tried.index(max(tried))]
                chosen = dict(run=self.name, task=task, seed=TRIAL_SEED)
                if tuple(chosen.values()) not in found():
                    record(**chosen, value=max(tried), command='the best of its trials')
            seeds = how['seeds']
            list(pool.map(lambda seed: self.evaluate(task, how, seed, best), seeds))

    def evaluate(self, task: str, how: dict, seed: int, extra: list[str]) -> float:
        """Evaluate with one seed, unless it has been done; the metric."""
        if (value := found().get((self.name, task, seed))) is not None:
            return value
        folder = self.folder / f'{task}_{seed}'
        folder.mkdir(parents=True, exist_ok=True)
        config = how['config'].format(arch=self.settings['config'].split('_')[0])
        words = [config, '--work-dir', str(folder), '--pretrained', str(self.backbone)]
        options = ['--cfg-options', f'randomness.seed={seed}', *how.get('options', [])]
        options += [
            *extra,
            *([f'{how["labels"]}.seed={seed}'] if 'labels' in how else []),
        ]
        spent, command, log = 0.0, '', folder / 'console.log'
        if 'probe' not in config:
            options += PRECISION
            training = ['train', *words, '--no-validate', *options]
            training += ['--resume'] * any(folder.glob('*.pth'))
            command, spent = call(training, self.preset, log)
            words.insert(1, (folder / 'last_checkpoint').read_text())
        out = ['--out', str(folder / 'metrics.json')]
        tested, more = call(['test', *words, *out, *options], self.preset, log)
        metrics = json.loads((folder / 'metrics.json').read_text())
        value = round(metrics[how['metric']], 2)
        cost = dict(cpu_seconds=round(spent + more), command=command or tested)
        record(run=self.name, task=task, seed=seed, value=value, **cost)
        return value


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--jobs', type=int, default=1, help='at a time')
    parser.add_argument('--gpu', action='store_true', help='train on the GPU')
    parser.add_argument('--only', nargs='+', help='names of runs')
    args = parser.parse_args()
    os.chdir(REPO)
    if not args.gpu:
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    for _ in range(args.jobs - 1):
        slots.release()
    plan = yaml.safe_load((HERE / 'runs.yaml').read_text())
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(Run(x, plan).carry_out) for x in args.only or plan['runs']]
        for job in jobs:
            job.result()


if __name__ == '__main__':
    main()
