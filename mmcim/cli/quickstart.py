# Copyright (c) mmcim contributors. All rights reserved.
"""The whole of CIM in minutes on a CPU, by the same commands as any other run.

Trains a small discrete VAE, pre-trains CIM with ResPix and with RevDet, and evaluates
both and random weights with three seeds each: linear probe (20 labels per class) and
fine-tuning (5 labels per class). On handwritten digits; for your own images see mmcim
pretrain.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

import mmcim_cli

from ..paths import configs_dir, write_config
from .job_queue import Job, run_jobs

SEEDS = (0, 1, 2)
ROWS = dict(scratch='random weights', cim_respix='CIM-ResPix', cim_revdet='CIM-RevDet')
# Config of what is evaluated -> title, metric, where the choice of labels has its seed.
TASKS = dict(
    linear_probe=('linear probe, top-1', 'linear/top1', 'test_cfg.train_dataloader'),
    finetune=('fine-tuning, top-1', 'accuracy/top1', 'train_dataloader'),
)


def run(args: argparse.Namespace) -> None:
    """Run all jobs, and print what came out.

    Args:
        args: The command line.

    Raises:
        SystemExit: If a job fails.
    """
    console, start = Console(highlight=False), time.monotonic()
    quickstart = Quickstart(args)
    limit = 2 if torch.cuda.is_available() else min(torch.get_num_threads(), 8)
    try:
        run_jobs(quickstart.jobs(), console, limit, torch.get_num_threads())
    except BaseException:
        again = 'the same command and --resume (make quickstart RESUME=1)'
        console.print(f'Stopped. What is done is kept; resume with {again}')
        raise
    summary, table = quickstart.summary()
    (args.work_dir / 'summary.json').write_text(json.dumps(summary, indent=2))
    console.print(table)
    minutes, images = (time.monotonic() - start) / 60, quickstart.folder / 'images.png'
    console.print(f'Done in {minutes:.1f} min; images: {images}', soft_wrap=True)


class Quickstart:
    """The jobs of a quickstart, and what comes out of them.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.folder = args, args.work_dir.absolute()
        self.configs = configs_dir() / 'quickstart'

    def jobs(self) -> list[Job]:
        """List all jobs; each waits for those that it needs."""
        folder, (_, *names) = self.folder, ROWS
        config, tokens = self.write_config('tokenizer', folder / 'tokenizer', {})
        jobs = [Job('tokenizer', folder / 'tokenizer', [self.train(config)])]
        runs = {}
        for name in names:
            changes = {'model.tokenizer.checkpoint': tokens}
            runs[name] = self.write_config(name, folder / name, changes)
            train = self.train(runs[name][0])
            jobs.append(Job(name, folder / name, [train], after=('tokenizer',)))
        respix, revdet = runs.values()
        draw = command('show', *respix, '--detector', *revdet)
        draw += ['--out', f'{folder}/images.png']
        jobs.append(Job('images', folder / 'images', [draw], after=tuple(names)))
        for row, seed in product(ROWS, SEEDS):
            _, checkpoint = runs.get(row, (None, None))
            jobs.append(self.evaluation(row, seed, checkpoint))
        return jobs

    def evaluation(self, row: str, seed: int, checkpoint: str | None) -> Job:
        """Probe and fine-tune with one backbone and one seed."""
        job = Job(f'{row}, seed {seed}', self.evaluated(row, seed), [])
        weights: dict = {'model.backbone.init_cfg': None}
        if checkpoint:
            job.after = (row,)
            backbone = checkpoint.replace('.pth', '_backbone.safetensors')
            weights = {'model.backbone.init_cfg.checkpoint': backbone}
        for task in TASKS:
            labels = f'{TASKS[task][2]}.dataset.seed'
            changes = {**weights, 'randomness.seed': seed, labels: seed}
            config, trained = self.write_config(task, job.folder / task, changes)
            test = command('test', config)
            if task != 'linear_probe':
                job.commands.append(self.train(config))
                test.append(trained)
            job.commands.append([*test, '--out', f'{job.folder / task}/metrics.json'])
        return job

    def evaluated(self, row: str, seed: int) -> Path:
        """Folder of an evaluation."""
        return self.folder / 'evaluation' / f'{row}_seed{seed}'

    def train(self, config: str) -> list[str]:
        """Command of a training; evaluation is a command of its own."""
        resume = ['--resume'] if self.args.resume else []
        return command('train', config, '--no-validate', *resume)

    def write_config(self, name: str, folder: Path, changes: dict) -> tuple[str, str]:
        """Write the config of a run into its work directory.

        Returns:
            Paths of the config and of the last checkpoint.
        """
        cfg = Config.fromfile(self.configs / f'{name}.py', import_custom_modules=False)
        cfg.merge_from_dict({**dict(self.args.cfg_options), **changes})
        path = folder / f'{name}.py'
        write_config(cfg, path, folder)
        return str(path), f'{folder}/iter_{cfg.train_cfg.max_iters}.pth'

    def summary(self) -> tuple[dict[str, dict[str, list[float]]], Table]:
        """Collect row -> task -> metric of each seed, in percent, and format them."""
        found: dict = {row: {} for row in ROWS}
        table = Table('%', *(TASKS[task][0] for task in TASKS))
        for row, title in ROWS.items():
            for task in TASKS:
                folders = [self.evaluated(row, seed) / task for seed in SEEDS]
                metrics = [json.loads((f / 'metrics.json').read_text()) for f in folders]
                found[row][task] = [round(m[TASKS[task][1]], 2) for m in metrics]
            values = [[mean(seeds), *seeds] for seeds in found[row].values()]
            cells = ['{:.1f} ({:.1f}, {:.1f}, {:.1f})'.format(*v) for v in values]
            table.add_row(title, *cells)
        return found, table


def command(*words: str) -> list[str]:
    """A command line of mmcim, for a :class:`Job`."""
    return [mmcim_cli.__file__, *words]
