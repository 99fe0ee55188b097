#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""The whole of CIM in minutes on a CPU, through the same tools as any other run.

Trains a small discrete VAE, pre-trains CIM with ResPix and with RevDet, and evaluates
both and random weights with three seeds each: linear probe (20 labels per class),
fine-tuning (5 labels per class) and segmentation (40 labelled scenes). On handwritten
digits, or with ``--data-root DIR`` on images in ``DIR/<class>/``.
"""

import argparse
import json
import os
import signal
import sys
import time
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.table import Table

TOOLS = Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS.parent))

from tools.job_queue import Job, forget_finished, run_jobs, write_config  # noqa: E402

SEEDS = (0, 1, 2)
EVALUATION = 'evaluation/{}_seed{}'
ROWS = dict(scratch='random weights', cim_respix='CIM-ResPix', cim_revdet='CIM-RevDet')
# Config of what is evaluated -> title, metric, where the choice of labels has its seed.
TASKS = dict(
    linear_probe=('linear probe, top-1', 'linear/top1', 'test_cfg.train_dataloader'),
    finetune=('fine-tuning, top-1', 'accuracy/top1', 'train_dataloader'),
    segmentation=('segmentation, mIoU', 'mIoU', 'train_dataloader'),
)


class Quickstart:
    """The jobs of a quickstart, and what comes out of them.

    Args:
        args: The command line.
        num_classes: Number of classes; with 0 nothing is evaluated.
    """

    def __init__(self, args: argparse.Namespace, num_classes: int = 10) -> None:
        own = args.data_root is not None
        self.configs = TOOLS.parent / 'configs/quickstart' / ('images' if own else '')
        self.args, self.num_classes = args, num_classes
        # Image folders have no segmentation maps.
        self.tasks = list(TASKS)[: 2 if own else 3] if num_classes else []

    def jobs(self) -> list[Job]:
        """List all jobs; each waits for those that it needs."""
        folder, (_, *names) = self.args.work_dir, ROWS
        jobs = [Job('tokenizer', folder / 'tokenizer')]
        jobs += [Job(name, folder / name, after=('tokenizer',)) for name in names]
        tokenizer = {'model.tokenizer.checkpoint': str(self.checkpoint('tokenizer'))}
        for job in jobs:
            self.add_training(job, job.name, job.folder, tokenizer if job.after else {})
        if self.tasks:
            jobs += [self.evaluation(row, seed) for row in ROWS for seed in SEEDS]
        runs = [[f'{folder / n / n}.py', str(self.checkpoint(n))] for n in names]
        draw = [f'{TOOLS}/visualization/vis_cim.py', '--out', f'{folder}/images.png']
        if not self.tasks:
            jobs.append(Job('images', folder / 'images'))
        # The last evaluation draws, too: a process imports for about 10 seconds.
        jobs[-1].commands.append([*draw, *runs[0], '--detector', *runs[1]])
        jobs[-1].after = tuple(names)
        return jobs

    def evaluation(self, row: str, seed: int) -> Job:
        """Probe, fine-tune and segment with one backbone and one seed."""
        folder = self.args.work_dir / EVALUATION.format(row, seed)
        job = Job(f'{row}, seed {seed}', folder)
        weights = {'model.backbone.init_cfg': None}
        if row != 'scratch':
            job.after = (row,)
            backbone = f'{self.checkpoint(row).with_suffix("")}_backbone.safetensors'
            weights = {'model.backbone.init_cfg.checkpoint': backbone}
        for task in self.tasks:
            labels = f'{TASKS[task][2]}.dataset.seed'
            changes = {**weights, 'randomness.seed': seed, labels: seed}
            if task != 'segmentation':
                changes['model.head.num_classes'] = self.num_classes
            folder = job.folder / task
            test = [f'{TOOLS}/test.py', f'{folder / task}.py']
            if task == 'linear_probe':
                self.write_config(task, folder, changes)
            else:
                self.add_training(job, task, folder, changes)
                test.append(str(self.checkpoint(task, folder)))
            job.commands.append([*test, '--out', f'{folder}/metrics.json'])
        return job

    def add_training(self, job: Job, name: str, folder: Path, changes: dict) -> None:
        """Let a job train; evaluation is a command of its own."""
        config = str(self.write_config(name, folder, changes))
        resume = ['--resume'] if self.args.resume else []
        job.commands.append([f'{TOOLS}/train.py', config, '--no-validate', *resume])
        job.trainings[folder] = self.load(name)

    def write_config(self, name: str, folder: Path, changes: dict) -> Path:
        """Write the config of one run into its work directory; give its path."""
        changes = {**self.args.cfg_options, **changes, 'work_dir': str(folder)}
        # Two runs that begin within a second would otherwise share their name.
        parts = folder.relative_to(self.args.work_dir).parts
        changes['experiment_name'] = '_'.join(parts)
        for key in image_folders(self.load(name).to_dict()):
            changes[f'{key}.data_root'] = self.args.data_root
        return write_config(folder / f'{name}.py', self.configs / f'{name}.py', changes)

    @cache  # noqa: B019  (there is one quickstart in a process)
    def load(self, name: str) -> Config:
        """Load a config as it is run, but for paths and seeds."""
        cfg = Config.fromfile(self.configs / f'{name}.py', import_custom_modules=False)
        cfg.merge_from_dict(self.args.cfg_options)
        return cfg

    def checkpoint(self, name: str, folder: Path | None = None) -> Path:
        """Path of the last checkpoint of a training."""
        folder = folder or self.args.work_dir / name
        return folder / f'iter_{self.load(name).train_cfg.max_iters}.pth'

    def summary(self) -> dict[str, dict[str, dict]]:
        """Collect row -> task -> ``mean`` and ``seeds``, in percent."""
        found: dict = {row: {} for row in ROWS}
        for row, task in product(ROWS, self.tasks):
            folders = [self.args.work_dir / EVALUATION.format(row, s) for s in SEEDS]
            files = [folder / task / 'metrics.json' for folder in folders]
            values = [json.loads(file.read_text())[TASKS[task][1]] for file in files]
            values = [round(float(value), 2) for value in values]
            found[row][task] = dict(mean=round(mean(values), 2), seeds=values)
        return found


def image_folders(node: object, key: str = '') -> list[str]:
    """Dotted keys of the datasets in a config that are image folders."""
    if not isinstance(node, dict):
        return []
    below = [image_folders(v, f'{key}.{name}'.strip('.')) for name, v in node.items()]
    return sum(below, [key] if node.get('type') == 'ImageFolder' else [])


def table(summary: dict[str, dict[str, dict]]) -> Table:
    """Format the summary: mean and the values of all seeds."""
    found = Table('%', *(TASKS[task][0] for task in summary['scratch']))
    for row, tasks in summary.items():
        seeds = [', '.join(f'{v:.1f}' for v in task['seeds']) for task in tasks.values()]
        cells = [f'{t["mean"]:.1f} ({s})' for t, s in zip(tasks.values(), seeds)]
        found.add_row(ROWS[row], *cells)
    return found


def main() -> None:
    """Run the quickstart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = os.path.expanduser  # a shell does not: the Makefile quotes the folder
    parser.add_argument('--data-root', type=home, help='your image folder')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/quickstart')
    parser.add_argument('--resume', action='store_true', help='after an interruption')
    options = dict(nargs='+', action=DictAction, default={}, metavar='KEY=VALUE')
    parser.add_argument('--cfg-options', help='override settings of every run', **options)
    args, console, start = parser.parse_args(), Console(highlight=False), time.monotonic()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: sys.exit(128 + number))
    args.work_dir, num_classes = args.work_dir.absolute(), 10
    if not args.resume:
        forget_finished(args.work_dir)
    if args.data_root:
        args.data_root = os.path.abspath(args.data_root)
        found = args.work_dir / 'check' / 'classes.json'
        check = [f'{TOOLS}/check_images.py', args.data_root, '--out', str(found)]
        run_jobs([Job('your images', found.parent, [check])], console, limit=1)
        report = (found.parent / 'console.log').read_text().splitlines()[-1]
        console.print(report, soft_wrap=True, markup=False)
        num_classes = len(json.loads(found.read_text()))
    quickstart = Quickstart(args, num_classes)
    limit = 2 if torch.cuda.is_available() else min(torch.get_num_threads(), 8)
    run_jobs(quickstart.jobs(), console, limit, torch.get_num_threads())
    if quickstart.tasks:
        summary = quickstart.summary()
        (args.work_dir / 'summary.json').write_text(json.dumps(summary, indent=2))
        console.print(table(summary))
    minutes, rest = divmod(round(time.monotonic() - start), 60)
    console.print(f'Done in {minutes} min {rest} s; images: {args.work_dir}/images.png')


if __name__ == '__main__':
    main()
