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
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from mmengine.config import Config, DictAction
from rich.console import Console
from rich.table import Table

TOOLS = Path(__file__).resolve().parent
sys.path.insert(0, str(TOOLS.parent))

from tools.job_queue import Job, run_jobs  # noqa: E402

SEEDS = (0, 1, 2)
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
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.configs = TOOLS.parent / 'configs/quickstart'
        self.tasks, self.num_classes = list(TASKS), 10
        self.suffix = '_images' if args.data_root else ''
        if args.data_root:
            folders = Path(args.data_root).glob('[!.]*')
            self.num_classes = sum(folder.is_dir() for folder in folders)
            # Image folders have no segmentation maps, and perhaps no classes.
            self.tasks = self.tasks[:2] if self.num_classes else []

    def jobs(self) -> list[Job]:
        """List all jobs; each waits for those that it needs."""
        folder, (_, *names) = self.args.work_dir, ROWS
        config, tokens = self.write_config('tokenizer', folder / 'tokenizer', {})
        jobs = [Job('tokenizer', folder / 'tokenizer', [self.train(config)])]
        runs = {}
        for name in names:
            changes = {'model.tokenizer.checkpoint': tokens}
            runs[name] = self.write_config(name, folder / name, changes)
            train = self.train(runs[name][0])
            jobs.append(Job(name, folder / name, [train], after=('tokenizer',)))
        respix, revdet = runs.values()
        draw = [f'{TOOLS}/visualization/vis_cim.py', *respix, '--detector', *revdet]
        draw += ['--out', f'{folder}/images.png']
        jobs.append(Job('images', folder / 'images', [draw], after=tuple(names)))
        for row, seed in product(ROWS if self.tasks else (), SEEDS):
            _, checkpoint = runs.get(row, (None, None))
            jobs.append(self.evaluation(row, seed, checkpoint))
        if data_root := self.args.data_root:
            for job in jobs:
                job.after = job.after or ('your images',)
            check = [f'{TOOLS}/check_images.py', data_root]
            jobs.insert(0, Job('your images', folder / 'check', [check]))
        return jobs

    def evaluation(self, row: str, seed: int, checkpoint: str | None) -> Job:
        """Probe, fine-tune and segment with one backbone and one seed."""
        job = Job(f'{row}, seed {seed}', self.folder(row, seed), [])
        weights = {'model.backbone.init_cfg': None}
        if checkpoint:
            job.after = (row,)
            backbone = checkpoint.replace('.pth', '_backbone.safetensors')
            weights = {'model.backbone.init_cfg.checkpoint': backbone}
        for task in self.tasks:
            labels = f'{TASKS[task][2]}.dataset.seed'
            changes = {**weights, 'randomness.seed': seed, labels: seed}
            if task != 'segmentation':
                changes['model.head.num_classes'] = self.num_classes
            config, trained = self.write_config(task, job.folder / task, changes)
            test = [f'{TOOLS}/test.py', config]
            if task != 'linear_probe':
                job.commands.append(self.train(config))
                test.append(trained)
            job.commands.append([*test, '--out', f'{job.folder / task}/metrics.json'])
        return job

    def folder(self, row: str, seed: int) -> Path:
        """Folder of an evaluation."""
        return self.args.work_dir / 'evaluation' / f'{row}_seed{seed}'

    def train(self, config: str) -> list[str]:
        """Command of a training; evaluation is a command of its own."""
        resume = ['--resume'] if self.args.resume else []
        return [f'{TOOLS}/train.py', config, '--no-validate', *resume]

    def write_config(self, name: str, folder: Path, changes: dict) -> tuple[str, str]:
        """Write the config of a run into its work directory.

        Returns:
            Paths of the config and of the last checkpoint.
        """
        path = self.configs / f'{name}{self.suffix}.py'
        cfg = Config.fromfile(path, import_custom_modules=False)
        cfg.merge_from_dict({**self.args.cfg_options, **changes})
        # Two runs that begin within a second would otherwise share their name.
        cfg.experiment_name = '_'.join(folder.relative_to(self.args.work_dir).parts)
        cfg.work_dir = str(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = cfg.to_dict()
        set_data_root(settings, self.args.data_root)
        text = [f'{key} = {value!r}\n' for key, value in settings.items()]
        path = folder / f'{name}.py'
        path.write_text(''.join(text))
        return str(path), f'{folder}/iter_{cfg.train_cfg.max_iters}.pth'

    def summary(self) -> tuple[dict[str, dict[str, list[float]]], Table]:
        """Collect row -> task -> metric of each seed, in percent, and format them."""
        found: dict = {row: {} for row in ROWS}
        table = Table('%', *(TASKS[task][0] for task in self.tasks))
        for row, title in ROWS.items():
            for task in self.tasks:
                files = [self.folder(row, seed) / task / 'metrics.json' for seed in SEEDS]
                metrics = [json.loads(file.read_text()) for file in files]
                found[row][task] = [round(m[TASKS[task][1]], 2) for m in metrics]
            values = [[mean(seeds), *seeds] for seeds in found[row].values()]
            table.add_row(
                title, *('{:.1f} ({:.1f}, {:.1f}, {:.1f})'.format(*v) for v in values)
            )
        return found, table


def set_data_root(node: object, data_root: str | None) -> None:
    """Let all image folders in a config be ``data_root``, if it is given."""
    if data_root and isinstance(node, dict):
        if node.get('type') == 'ImageFolder':
            node['data_root'] = data_root
        for child in node.values():
            set_data_root(child, data_root)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    # A shell does not expand ~ where the Makefile quotes the folder.
    parser.add_argument('--data-root', type=os.path.expanduser, help='your images')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/quickstart')
    parser.add_argument('--resume', action='store_true', help='after an interruption')
    options = dict(nargs='+', action=DictAction, default={}, metavar='KEY=VALUE')
    parser.add_argument('--cfg-options', help='override settings of every run', **options)
    args = parser.parse_args()
    args.work_dir = args.work_dir.absolute()
    args.data_root = args.data_root and os.path.abspath(args.data_root)
    return args


def main() -> None:
    """Run the quickstart."""
    args, console, start = parse_args(), Console(highlight=False), time.monotonic()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: sys.exit(128 + number))
    quickstart = Quickstart(args)
    limit = 2 if torch.cuda.is_available() else min(torch.get_num_threads(), 8)
    run_jobs(quickstart.jobs(), console, limit, torch.get_num_threads())
    if quickstart.tasks:
        summary, table = quickstart.summary()
        (args.work_dir / 'summary.json').write_text(json.dumps(summary, indent=2))
        console.print(table)
    minutes, rest = divmod(round(time.monotonic() - start), 60)
    console.print(f'Done in {minutes} min {rest} s; images: {args.work_dir}/images.png')


if __name__ == '__main__':
    main()
