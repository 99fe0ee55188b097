#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Test a classifier, segmentor, tokenizer or pre-training and print its metrics.

Example: ``python tools/test.py CONFIG CHECKPOINT``
"""

import argparse
from collections.abc import Sequence

import mmengine
import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmcim.evaluation import FrozenFeatureLoop, SelfSupTestLoop
from mmcim.utils import ConfigError, add_run_options, build_runner, load_config, run_cli


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file of exactly this model; by default the weights that the '
        "config's own init_cfg names",
    )
    parser.add_argument('--out', help='file for metrics (.json) or predictions (.pkl)')
    parser.add_argument('--show-dir', help='folder for images of the predictions')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation by the config's tta_pipeline: several scales, each "
        'also flipped',
    )
    add_run_options(parser)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.json', '.pkl')):
        parser.error('--out must end with .json (metrics) or .pkl (predictions)')
    return args


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Put the command line's options into the config.

    Raises:
        ConfigError: If the config lacks what an option needs.
    """
    cfg.load_from, cfg.resume = args.checkpoint or None, False
    if args.show_dir:
        hook = (cfg.get('default_hooks') or {}).get('visualization')
        if not hook:
            raise ConfigError('--show-dir needs default_hooks.visualization')
        if cfg.get('default_scope') == 'mmseg':
            hook.update(draw=True, interval=1)
            cfg.visualizer.save_dir = args.show_dir
        else:
            hook.update(enable=True, interval=1, out_dir=args.show_dir)
    if args.tta:
        if not cfg.get('tta_model') or not cfg.get('tta_pipeline'):
            raise ConfigError('--tta needs tta_model and tta_pipeline in the config')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = ConfigDict({**cfg.tta_model, 'module': cfg.model})


def prepare_loop(runner: Runner, args: argparse.Namespace) -> None:
    """Let the loop keep its predictions, if they are wanted.

    Raises:
        ConfigError: If a trained head is tested without its checkpoint, or predictions
            are wanted of a loop that makes none.
    """
    loop = runner.test_loop
    if not args.checkpoint and not isinstance(loop, FrozenFeatureLoop):
        raise ConfigError(
            f'CHECKPOINT is missing: tools/test.py {args.config} CHECKPOINT. Without it '
            'there would be a random head; only loops that need nothing but a backbone, '
            'such as LinearProbeLoop, take the weights of init_cfg'
        )
    if args.out and args.out.endswith('.pkl'):
        if isinstance(loop, (FrozenFeatureLoop, SelfSupTestLoop)):
            name = type(loop).__name__
            raise ConfigError(f'--out: {name} makes no predictions, only metrics (.json)')
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Test.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The metrics, e.g. ``accuracy/top1`` or ``mIoU``, in percent.

    Raises:
        ConfigError: For everything that the user can fix.
    """
    args = parse_args(argv)
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher, args.pretrained
    )
    merge_args(cfg, args)
    runner = build_runner(cfg, 'test')
    prepare_loop(runner, args)
    metrics = runner.test()
    if is_main_process():
        for name, value in metrics.items():
            is_float = isinstance(value, (float, np.floating))
            print(f'{name}: {value:.4f}' if is_float else f'{name}: {value}')
        if args.out and args.out.endswith('.json'):
            mmengine.dump(metrics, args.out)
    return metrics


if __name__ == '__main__':
    run_cli(main)
