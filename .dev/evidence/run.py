#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Carry out the runs of runs.yaml that results.jsonl lacks, and write their lines.

    python .dev/evidence/run.py --jobs 2        # resumes what was interrupted

Each job has one thread, and the cost of a row is its CPU time, so that other programs on
the machine change nothing but the date. The images lie in data/imagenette64, which
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
from threading import Lock
from typing import Any

import torch
import yaml
from mmengine.config import Config

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
RESULTS = HERE / 'results.jsonl'
WORK = Path('work_dirs/evidence')
_lock = Lock()


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
        torch=torch.__version__,
        commit=subprocess.check_output(commit, cwd=REPO, text=True).strip(),
        date=time.strftime('%Y-%m-%d'),
    )


def call(words: list[str], preset: Path, log: Path) -> tuple[str, float]:
    """Run a command of mmcim with one thread; the command and its CPU seconds."""
    env = dict(os.environ, MMCIM_PRESET=str(preset.absolute()), OMP_NUM_THREADS='1')
    env |= dict(CUDA_VISIBLE_DEVICES='', PYTHONPATH=str(REPO))
    with open(log, 'a') as file:
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


def pretrain(name: str, preset: Path, config: str, max_iters: int) -> str:
    """Pre-train, if it has not been done; the backbone."""
    folder = WORK / name
    backbone = folder / f'iter_{max_iters}_backbone.safetensors'
    if not backbone.is_file():
        words = ['train', f'configs/images/{config}.py', '--work-dir', str(folder)]
        resumed = any(folder.glob('*.pth'))
        words += ['--resume'] * resumed
        command, seconds = call(words, preset, folder / 'console.log')
        text = Config.fromfile(folder / f'{config}.py').pretty_text
        sha = hashlib.sha256(text.encode()).hexdigest()[:12]
        cost = dict(max_iters=max_iters, config_sha256=sha)
        cost |= {} if resumed else dict(cpu_seconds=round(seconds))
        if (name, 'pretrain', 0) not in found():
            record(run=name, task='pretrain', seed=0, command=command, **cost)
    return str(backbone)


def evaluate(
    name: str, preset: Path, weights: str, task: str, how: dict, seed: int, extra: list
) -> float:
    """Evaluate with one seed, unless it has been done; the metric."""
    if (value := found().get((name, task, seed))) is not None:
        return value
    folder = WORK / name / f'{task}_{seed}'
    folder.mkdir(parents=True, exist_ok=True)
    config, log = how['config'], folder / 'console.log'
    words = [config, '--work-dir', str(folder), '--pretrained', weights]
    options = [
        '--cfg-options',
        f'randomness.seed={seed}',
        *how.get('options', []),
        *extra,
    ]
    options += [f'{how["labels"]}.seed={seed}'] if 'labels' in how else []
    spent, command = 0.0, ''
    if 'probe' not in config:
        resume = ['--resume'] * any(folder.glob('*.pth'))
        words_of_training = ['train', *words, '--no-validate', *resume, *options]
        command, spent = call(words_of_training, preset, log)
        words.insert(1, (folder / 'last_checkpoint').read_text())
    out = ['--out', str(folder / 'metrics.json')]
    tested, more = call(['test', *words, *out, *options], preset, log)
    value = round(json.loads((folder / 'metrics.json').read_text())[how['metric']], 2)
    cost = dict(cpu_seconds=round(spent + more), command=command or tested)
    record(run=name, task=task, seed=seed, value=value, **cost)
    return value


def carry_out(name: str, run: dict, plan: dict) -> None:
    """Do all of a run that is missing."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    values = {k: v for k, v in run.items() if k not in ('config', 'tasks')}
    preset, lines = folder / 'preset.py', [f'_base_ = {str(HERE / plan["preset"])!r}']
    lines += [f'{key} = {value!r}' for key, value in values.items()]
    preset.write_text('\n'.join(lines) + '\n')
    weights = pretrain(name, preset, run['config'], run['max_iters'])
    for task, how in plan['tasks'].items():
        if how.get('only') and task not in run.get('tasks', []):
            continue
        config = how['config'].format(arch=run['config'].split('_')[0])
        known = (name, preset, weights)
        how, extra = {**how, 'config': config}, []
        if trials := how.get('trials'):
            tried = [
                evaluate(*known, f'{task}_trial{i}', how, 10, trial)
                for i, trial in enumerate(trials)
            ]
            extra = trials[tried.index(max(tried))]
        for seed in how['seeds']:
            evaluate(*known, task, how, seed, extra)


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--jobs', type=int, default=1, help='at a time')
    parser.add_argument('--only', nargs='+', help='names of runs')
    args = parser.parse_args()
    os.chdir(REPO)
    plan = yaml.safe_load((HERE / 'runs.yaml').read_text())
    with ThreadPoolExecutor(args.jobs) as pool:
        names = args.only or plan['runs']
        jobs = [pool.submit(carry_out, name, plan['runs'][name], plan) for name in names]
        for job in jobs:
            job.result()


if __name__ == '__main__':
    main()
