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
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing import connection, get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets.custom import find_folders
from mmpretrain.registry import DATASETS

from mmcim.datasets import LoadImage
from mmcim.datasets.picture_folder import EXTENSIONS
from mmcim.transfer import backbone_path
from mmcim.utils import ConfigError, atomic_write, load_config, run_cli
from mmcim.visualization import cim_panels, save_grid

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

from tools import test as test_tool  # noqa: E402
from tools import train as train_tool  # noqa: E402
from tools.visualization.vis_cim import first_pictures, load_cim  # noqa: E402

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


def in_parallel(jobs: dict[Hashable, Callable[[], Any]]) -> dict[Hashable, Any]:
    """Run jobs in processes of their own, one per processor core at a time.

    The networks are so small that a second core speeds up a second training far more
    than the same one. A GPU is shared by two jobs at most.

    Args:
        jobs (dict[Hashable, Callable]): Name -> what to run.

    Returns:
        dict[Hashable, Any]: Name -> what the job has returned.

    Raises:
        Exception: The first one that a job has raised; all other jobs are ended.
    """
    context = get_context('fork')
    cores = len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count()
    limit = min(len(jobs), 2 if torch.cuda.is_available() else cores)
    threads = max(1, cores // limit)
    waiting, running, results = list(jobs.items()), {}, {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                name, job = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_send, args=(job, threads, sender))
                process.start()
                sender.close()
                running[receiver] = name, process
            for receiver in connection.wait(list(running)):
                name, process = running.pop(receiver)
                try:
                    outcome = receiver.recv()
                except EOFError:
                    process.join()
                    outcome = RuntimeError(f'{name} ended with code {process.exitcode}')
                process.join()
                if isinstance(outcome, BaseException):
                    raise outcome
                results[name] = outcome
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    return {name: results[name] for name in jobs}


def _send(job: Callable[[], Any], threads: int, sender: connection.Connection) -> None:
    torch.set_num_threads(threads)
    try:
        outcome = job()
    except BaseException as error:  # it is raised again where the result is awaited
        outcome = error
    sender.send(outcome)


class ProgressLines(io.TextIOBase):
    """Standard output of a run: all of it to a log, progress to the terminal as well."""

    progress = re.compile(r'(Iter\(train\) .*)')
    # What tells a reader most; the log has the rest.
    left_out = re.compile(r'(base_lr|lr|data_time|time|memory|grad_norm\w*): [\d.e-]+ +')

    def __init__(self, name: str, log: io.TextIOBase, terminal: io.TextIOBase) -> None:
        self.name = name
        self.log = log
        self.terminal = terminal

    def write(self, text: str) -> int:
        """Write text to the log, and its progress lines to the terminal."""
        self.log.write(text)
        for line in self.progress.findall(text):
            short = self.left_out.sub('', line + ' ').strip()
            print(f'    {self.name:22} {short}', file=self.terminal, flush=True)
        return len(text)


class Quickstart:
    """The four steps in one work directory.

    Args:
        work_dir (Path): Where everything is written.
        data_root (str, optional): An own folder of pictures, ``<class>/*``.
        resume (bool): Go on from what an interrupted quickstart left.
        options (Sequence[str]): ``KEY=VALUE`` for the config of every training.

    Raises:
        ConfigError: If the work directory cannot be written, or the own pictures are too
            few for all steps or cannot be read.
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
            with open(work_dir / 'console.log', 'a' if resume else 'w'):
                pass
        except OSError as error:
            raise ConfigError(f'--work-dir {work_dir} cannot be used: {error}') from error
        if data_root:
            with self.quiet('pictures'):  # what mmengine says on the way
                paths = self._list_pictures()
            self._check_pictures(paths)

    def run(self) -> None:
        """Take the steps."""
        start = time.monotonic()
        say(f'Step 1 of 4: a tokenizer ({self.configs.name}/tokenizer.py)')
        tokenizer = in_parallel({'tokenizer': self.tokenizer})['tokenizer']
        say('Step 2 of 4: pre-training, ResPix and RevDet')
        jobs = {row: partial(self.pretrain, row, tokenizer) for row in ROWS[1:]}
        checkpoints = in_parallel(jobs)
        if self.num_classes:
            say('Step 3 of 4: linear probe (20 labels per class), fine-tuning (5 labels)')
            if 'segmentation_miou' in self.metrics:
                say('  and segmentation (40 labelled scenes)')
            summary = self.evaluate(checkpoints)
        else:
            say(f'Step 3 of 4 is left out: {self.data_root} has no folders of classes')
            summary = None
        say('Step 4 of 4: results')
        in_parallel({'pictures': partial(self.show, checkpoints)})
        if summary is not None:
            with atomic_write(self.work_dir / 'summary.json') as file:
                file.write(json.dumps(summary, indent=2).encode())
            say(table(summary))
            say(f'Numbers:  {self.work_dir}/summary.json')
        say(f'Pictures: {self.work_dir}/pictures.png')
        minutes, seconds = divmod(round(time.monotonic() - start), 60)
        say(f'Done in {minutes} min {seconds} s; logs are in {self.work_dir}.')

    def tokenizer(self) -> str:
        """Train the tokenizer; give its checkpoint."""
        return last_checkpoint(self.train('tokenizer'))

    def pretrain(self, row: str, tokenizer: str) -> str:
        """Pre-train one CIM; give its checkpoint."""
        return last_checkpoint(self.train(row, {'model.tokenizer.checkpoint': tokenizer}))

    def train(self, name: str, options: dict | None = None, to: str = '') -> Runner:
        """Run tools/train.py on a config of the quickstart."""
        to = to or name
        args = [self._write_config(name, to, options or {})]
        if self.options:
            args += ['--cfg-options', *self.options]
        if self.resume:
            args += ['--resume']
            stopped = (self.work_dir / to / 'last_checkpoint').is_file()
            say(f'  {to}: {"goes on from its last checkpoint" if stopped else "begins"}')
        with self.quiet(to.removeprefix('classifiers/')):
            return train_tool.main(args)

    def train_and_validate(self, name: str, options: dict, to: str) -> dict:
        """Run tools/train.py and give the metrics of what has been trained.

        Validation comes after training instead of being its end: a run that goes on from
        the last checkpoint, which is written before, would never get to it.
        """
        runner = self.train(name, {**options, 'train_cfg.val_begin': sys.maxsize}, to)
        with self.quiet(to.removeprefix('classifiers/')):
            return runner.val()

    def evaluate(self, checkpoints: dict[str, str]) -> dict:
        """Use the backbones of all rows with each seed.

        Returns:
            dict: Row -> metric -> ``mean`` and ``seeds``, in percent.
        """
        jobs = {
            (row, seed): partial(self.evaluate_once, row, checkpoints.get(row), seed)
            for row in ROWS
            for seed in SEEDS
        }
        found = in_parallel(jobs)
        summary = {}
        for row in ROWS:
            summary[row] = {}
            for metric in self.metrics:
                values = [round(found[row, seed][metric], 2) for seed in SEEDS]
                summary[row][metric] = dict(mean=round(mean(values), 2), seeds=values)
        return summary

    def evaluate_once(self, row: str, checkpoint: str | None, seed: int) -> dict:
        """Probe, fine-tune and segment with one backbone, or from random weights.

        Returns:
            dict: Metric -> value in percent.
        """
        init = {'model.backbone.init_cfg': None}
        if checkpoint is not None:
            backbone = str(backbone_path(checkpoint))
            init = {'model.backbone.init_cfg.checkpoint': backbone}
        options = {**init, 'randomness.seed': seed}
        classifier = {**options, 'model.head.num_classes': self.num_classes}
        to = f'classifiers/{row}_seed{seed}'

        seed_of = {'test_cfg.train_dataloader.dataset.seed': seed}
        config = self._write_config(
            'linear_probe', f'{to}/linear_probe', {**classifier, **seed_of}
        )
        with self.quiet(row):
            found = {'linear_top1': test_tool.main([config])['linear/top1']}

        seed_of = {'train_dataloader.dataset.seed': seed}
        metrics = self.train_and_validate(
            'finetune', {**classifier, **seed_of}, f'{to}/finetune'
        )
        found['finetune_top1'] = metrics['accuracy/top1']
        if 'segmentation_miou' in self.metrics:
            metrics = self.train_and_validate(
                'segmentation', {**options, **seed_of}, f'{to}/segmentation'
            )
            found['segmentation_miou'] = float(metrics['mIoU'])  # numpy's
        values = ', '.join(f'{metric} {value:.1f}' for metric, value in found.items())
        say(f'  {row}, seed {seed}: {values}')
        return found

    def show(self, checkpoints: dict[str, str]) -> None:
        """Draw what the two pre-trained models do to the same pictures."""
        models = {}
        with self.quiet('pictures'):  # what libraries say on the way
            for row, checkpoint in checkpoints.items():
                # The config as it was run is beside the checkpoint.
                cfg = load_config(self.work_dir / row / f'{row}.py')
                init_default_scope(cfg.default_scope)
                models[row] = load_cim(cfg, checkpoint)
            model, detector = models['cim_respix'], models['cim_revdet'].enhancer
            torch.manual_seed(0)
            inputs = first_pictures(cfg, model, num=8)['inputs']
            panels, captions = cim_panels(model, inputs, detector)
            save_grid(panels, self.work_dir / 'pictures.png', captions=captions)

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

    def _list_pictures(self) -> list[str]:
        """List the own pictures, if they are enough for all steps."""
        if self.num_classes:
            cfg = self._load_config('linear_probe')
            few = cfg.test_cfg.train_dataloader.dataset
            train = list_pictures(few.dataset)
            val = list_pictures(cfg.test_dataloader.dataset)
            self._check_classes(train, val, few.num_per_class)
        else:
            cfg = self._load_config('tokenizer')
            train, val = list_pictures(cfg.train_dataloader.dataset), []
            if not train:
                raise ConfigError(
                    f'--data-root {self.data_root} has no picture to train with; add '
                    f'some ({", ".join(EXTENSIONS)})'
                )
        return [item['img_path'] for item in (*train, *val)]

    def _check_pictures(self, paths: list[str]) -> None:
        """Read all pictures: one that cannot be read would end the third step."""
        say(f'Looking through {len(paths)} pictures in {self.data_root}')
        # In parts, for several cores.
        parts = in_parallel({i: partial(find_unreadable, paths[i::8]) for i in range(8)})
        unreadable = sorted(sum(parts.values(), []))
        if unreadable:
            found = self.work_dir / 'unreadable.txt'
            found.write_text('\n'.join([*unreadable, '']))
            raise ConfigError(
                f'--data-root {self.data_root}: {len(unreadable)} of {len(paths)} '
                'pictures cannot be read; they are empty, truncated, damaged or of an '
                f'unsupported format:{first_lines(unreadable)}\nRepair them or move them '
                f'elsewhere; {found} lists all of them'
            )

    def _check_classes(self, train: list[dict], val: list[dict], wanted: int) -> None:
        """Look whether every class has pictures enough in both subsets."""
        classes, _ = find_folders(self.data_root)
        train = Counter(classes[item['gt_label']] for item in train)
        val = Counter(classes[item['gt_label']] for item in val)
        short = [
            f'{name}: {train[name]} for training, {val[name]} for validation'
            for name in classes
            if train[name] < wanted or not val[name]
        ]
        if short:
            raise ConfigError(
                f'--data-root {self.data_root}: {len(short)} of {len(classes)} classes '
                f'have too few pictures:{first_lines(short)}\nExpected of each: {wanted} '
                'for training, 1 for validation. A fifth is kept for validation, chosen '
                f'by their names; {2 * wanted} pictures are enough as a rule.\nAdd '
                f'pictures ({", ".join(EXTENSIONS)}), or move the folders of these '
                'classes elsewhere, or put all pictures into one folder without folders '
                'in it, to pre-train without labels'
            )

    def _load_config(
        self, name: str, options: dict | None = None, to: str = ''
    ) -> Config:
        """Load a config with overridden keys, the root of an own folder among them."""
        options = dict(options or {})
        if self.data_root:
            for key in DATA_ROOTS[name]:
                options[f'{key}.data_root'] = os.path.abspath(self.data_root)
        path = self.configs / f'{name}.py'
        return load_config(path, options, str(self.work_dir / (to or name)))

    def _write_config(self, name: str, to: str, options: dict) -> str:
        """Write the config of one run into its work directory; give the file.

        On a command line a path could not have any character.
        """
        # Two runs that begin within a second would otherwise share their name.
        options = {**options, 'experiment_name': to.replace('/', '_')}
        cfg = self._load_config(name, options, to)
        path = Path(cfg.work_dir) / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(path)
        return str(path)

    @contextmanager
    def quiet(self, name: str) -> Iterator[None]:
        """Keep what a run prints in ``console.log``, and show its progress."""
        # mmengine's loggers hold on to it, so it ends with the process.
        log = open(self.work_dir / 'console.log', 'a', buffering=1)  # noqa: SIM115
        with redirect_stdout(ProgressLines(name, log, sys.stdout)), redirect_stderr(log):
            yield


def last_checkpoint(runner: Runner) -> str:
    """Path of the checkpoint that a finished training has written last."""
    return Path(runner.work_dir, 'last_checkpoint').read_text()


def list_pictures(dataset: dict) -> list[dict]:
    """List the pictures of a dataset's config, without reading them.

    Returns:
        list[dict]: ``img_path`` of each, and ``gt_label`` if it has one.
    """
    dataset = DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True})
    try:
        return dataset.load_data_list()
    except (ValueError, RuntimeError):  # there are none
        return []


def find_unreadable(paths: list[str]) -> list[str]:
    """Give those of some pictures that the data pipelines cannot read."""
    load, found = LoadImage(), []
    for path in paths:
        try:
            load({'img_path': path})
        except OSError:
            found.append(path)
    return found


def first_lines(items: list[str], most: int = 5) -> str:
    """Indent the first items, one per line, for an error message."""
    shown = items if len(items) <= most else [*items[:most], '...']
    return ''.join(f'\n  {item}' for item in shown)


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
    parser.add_argument(
        '--data-root',
        type=os.path.expanduser,  # quoted in the Makefile, no shell has done so
        help='own folder of pictures, DIR/<class>/*',
    )
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
