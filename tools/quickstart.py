#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""The whole of CIM in minutes on a CPU, through the same tools as any other run.

1. train a small discrete VAE; 2. pre-train CIM with ResPix and with RevDet; 3. probe
(20 labels per class) and fine-tune (5 labels per class) a classifier, and segment scenes
(40 labelled ones), from each and from random weights, with three seeds; 4. print a table,
and write ``summary.json`` and ``pictures.png``.

Example: ``python tools/quickstart.py`` (handwritten digits), or
``python tools/quickstart.py --data-root DIR`` with pictures in ``DIR/<class>/``.
"""

import argparse
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import mean

import torch
from mmengine.runner import Runner
from mmpretrain.datasets.custom import find_folders

from mmcim.transfer import backbone_path
from mmcim.utils import ConfigError, atomic_write, run_cli
from mmcim.visualization import cim_panels, save_grid

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from tools import test as test_tool  # noqa: E402
from tools import train as train_tool  # noqa: E402

CONFIGS = REPO / 'configs' / 'quickstart'
SEEDS = (0, 1, 2)
ROWS = ('scratch', 'cim_respix', 'cim_revdet')
METRICS = ('linear_top1', 'finetune_top1', 'segmentation_miou')
# Where each kind of config has the root of an own folder.
DATA_ROOTS = {
    'tokenizer': ['train_dataloader.dataset'],
    'cim_respix': ['train_dataloader.dataset'],
    'cim_revdet': ['train_dataloader.dataset'],
    'finetune': ['train_dataloader.dataset.dataset', 'val_dataloader.dataset'],
    'linear_probe': [
        'test_cfg.train_dataloader.dataset.dataset',
        'test_dataloader.dataset',
    ],
}


class ProgressLines(io.TextIOBase):
    """Standard output of a run: all of it to a log, progress to the terminal as well."""

    progress = re.compile(r'(Iter\(train\) .*)')
    # What tells a reader most; the log has the rest.
    left_out = re.compile(r'(base_lr|lr|data_time|time|memory|grad_norm\w*): [\d.e-]+ +')

    def __init__(self, log: io.TextIOBase, terminal: io.TextIOBase) -> None:
        self.log = log
        self.terminal = terminal

    def write(self, text: str) -> int:
        """Write text to the log, and its progress lines to the terminal."""
        self.log.write(text)
        for line in self.progress.findall(text):
            short = self.left_out.sub('', line + ' ').strip()
            print(f'    {short}', file=self.terminal, flush=True)
        return len(text)


class Quickstart:
    """The four steps in one work directory.

    Args:
        work_dir (Path): Where everything is written.
        data_root (str, optional): An own folder of pictures, ``<class>/*``.
        resume (bool): Go on from what an interrupted quickstart left.
        options (Sequence[str]): ``KEY=VALUE`` for the config of every training.
    """

    def __init__(
        self,
        work_dir: Path,
        data_root: str | None,
        resume: bool,
        options: Sequence[str] = (),
    ) -> None:
        self.work_dir = work_dir
        self.options = options
        self.configs = CONFIGS / 'pictures' if data_root else CONFIGS
        self.data_root = data_root
        self.resume = resume
        self.num_classes = self._count_classes() if data_root else 10
        # Pictures in folders of classes have no labels of pixels.
        self.metrics = METRICS[:2] if data_root else METRICS
        try:
            work_dir.mkdir(parents=True, exist_ok=True)
            log = open(work_dir / 'console.log', 'w', buffering=1)  # noqa: SIM115
        except OSError as error:
            raise ConfigError(f'--work-dir {work_dir} cannot be used: {error}') from error
        # mmengine's loggers hold on to it from run to run, so it is never closed.
        self.output = ProgressLines(log, sys.stdout)

    def run(self) -> None:
        """Take the steps."""
        start = time.monotonic()
        say(f'Step 1 of 4: a tokenizer ({self.configs.name}/tokenizer.py)')
        tokenizer = self.train('tokenizer')
        say('Step 2 of 4: pre-training')
        models = {}
        for row in ROWS[1:]:
            say(f'  {row}')
            models[row] = self.train(
                row, {'model.tokenizer.checkpoint': last_checkpoint(tokenizer)}
            )
        if self.num_classes:
            say('Step 3 of 4: linear probe (20 labels per class), fine-tuning (5 labels)')
            if 'segmentation_miou' in self.metrics:
                say('  and segmentation (40 labelled scenes)')
            summary = {row: self.evaluate(row, models.get(row)) for row in ROWS}
        else:
            say(f'Step 3 of 4 is left out: {self.data_root} has no folders of classes')
            summary = None
        say('Step 4 of 4: results')
        self.show(models)
        if summary is not None:
            with atomic_write(self.work_dir / 'summary.json') as file:
                file.write(json.dumps(summary, indent=2).encode())
            say(table(summary))
            say(f'Numbers:  {self.work_dir}/summary.json')
        say(f'Pictures: {self.work_dir}/pictures.png')
        minutes, seconds = divmod(round(time.monotonic() - start), 60)
        say(f'Done in {minutes} min {seconds} s; logs are in {self.work_dir}.')

    def train(self, name: str, options: dict | None = None, to: str = '') -> Runner:
        """Run tools/train.py on a config of the quickstart."""
        args = [*self._arguments(name, to or name, options or {}), *self.options]
        with self.quiet():
            return train_tool.main([*args, *(['--resume'] if self.resume else [])])

    def evaluate(self, row: str, pretrained: Runner | None) -> dict:
        """Probe and fine-tune one row's backbone with each seed.

        Returns:
            dict: Metric -> ``mean`` and ``seeds``, in percent.
        """
        found = {metric: [] for metric in self.metrics}
        init = {'model.backbone.init_cfg': None}
        if pretrained is not None:
            backbone = backbone_path(last_checkpoint(pretrained))
            init = {'model.backbone.init_cfg.checkpoint': str(backbone)}
        for seed in SEEDS:
            options = {**init, 'randomness.seed': seed}
            classifier = {**options, 'model.head.num_classes': self.num_classes}
            folder = f'classifiers/{row}_seed{seed}'
            seed_of = {'test_cfg.train_dataloader.dataset.seed': seed}
            args = self._arguments(
                'linear_probe', f'{folder}/linear_probe', {**classifier, **seed_of}
            )
            with self.quiet():
                metrics = test_tool.main(args)
            found['linear_top1'].append(metrics['linear/top1'])
            seed_of = {'train_dataloader.dataset.seed': seed}
            runner = self.train(
                'finetune', {**classifier, **seed_of}, to=f'{folder}/finetune'
            )
            top1 = runner.message_hub.get_scalar('val/accuracy/top1').current()
            found['finetune_top1'].append(top1)
            if 'segmentation_miou' in found:
                runner = self.train(
                    'segmentation', {**options, **seed_of}, to=f'{folder}/segmentation'
                )
                miou = runner.message_hub.get_scalar('val/mIoU').current()
                found['segmentation_miou'].append(miou)
            last = ', '.join(f'{key} {values[-1]:.1f}' for key, values in found.items())
            say(f'  {row}, seed {seed}: {last}')
        return {
            metric: dict(mean=round(mean(values), 2), seeds=[round(v, 2) for v in values])
            for metric, values in found.items()
        }

    def show(self, runners: dict[str, Runner]) -> None:
        """Draw what the two pre-trained models do to the same pictures."""
        model = runners['cim_respix'].model.eval()
        detector = runners['cim_revdet'].model.eval().enhancer
        loader = runners['cim_respix'].train_dataloader
        chosen = range(min(8, len(loader.dataset)))
        batch = loader.collate_fn([loader.dataset[i] for i in chosen])
        torch.manual_seed(0)
        inputs = model.data_preprocessor(batch, training=False)['inputs']
        save_grid(cim_panels(model, inputs, detector), self.work_dir / 'pictures.png')

    def _count_classes(self) -> int:
        if not Path(self.data_root).is_dir():
            raise ConfigError(f'--data-root {self.data_root} is not a folder')
        classes, _ = find_folders(self.data_root)
        if len(classes) == 1:
            raise ConfigError(
                f'--data-root {self.data_root} has one folder, {classes[0]}; expected '
                'one for each of two classes or more, or pictures without folders'
            )
        return len(classes)

    def _arguments(self, name: str, to: str, options: dict) -> list[str]:
        """Arguments for a tool: config, work directory and overridden keys."""
        if self.data_root:
            for key in DATA_ROOTS[name]:
                options[f'{key}.data_root'] = os.path.abspath(self.data_root)
        # Two runs that begin within a second would otherwise share their name.
        options['experiment_name'] = to.replace('/', '_')
        return [
            str(self.configs / f'{name}.py'),
            f'--work-dir={self.work_dir / to}',
            '--cfg-options',
            *(f'{key}={value}' for key, value in options.items()),
        ]

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Keep what a run prints in ``console.log``, and show its progress."""
        with redirect_stdout(self.output), redirect_stderr(self.output.log):
            yield


def last_checkpoint(runner: Runner) -> str:
    """Path of the checkpoint that a finished training has written last."""
    return Path(runner.work_dir, 'last_checkpoint').read_text()


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def table(summary: dict) -> str:
    """Format the summary as a table of ``mean (seeds)``."""
    names = next(iter(summary.values()))
    lines = [f'{"%":12}' + ''.join(f'{name:>26}' for name in names)]
    for row, metrics in summary.items():
        line = f'{row:12}'
        for found in metrics.values():
            seeds = ', '.join(f'{value:.1f}' for value in found['seeds'])
            cell = f'{found["mean"]:.1f} ({seeds})'
            line += f'{cell:>26}'
        lines.append(line)
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the quickstart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data-root', help='own folder of pictures, DIR/<class>/*')
    parser.add_argument('--work-dir', type=Path, default='work_dirs/quickstart')
    parser.add_argument(
        '--resume', action='store_true', help='go on with an interrupted quickstart'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of every training, e.g. train_cfg.max_iters=800',
    )
    args = parser.parse_args(argv)
    Quickstart(args.work_dir, args.data_root, args.resume, args.cfg_options).run()


if __name__ == '__main__':
    run_cli(main)
