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
from mmengine.runner import BaseLoop

from mmcim.evaluation import FrozenFeatureLoop, SelfSupTestLoop
from mmcim.utils import (
    ConfigError,
    add_cfg_options,
    build_runner,
    load_config,
    run_cli,
)


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
    parser.add_argument(
        '--work-dir', help='folder for the log; work_dirs/CONFIG by default'
    )
    parser.add_argument('--out', help='file for the results, .pkl or .json')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        default='pred',
        help='what --out gets: the predictions (.pkl) or the metrics. Default: pred',
    )
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation by the config's tta_pipeline: several scales, each "
        'also flipped',
    )
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none'
    )
    args = parser.parse_args(argv)
    suffixes = ('.json', '.pkl') if args.out_item == 'metrics' else ('.pkl',)
    if args.out and not args.out.endswith(suffixes):
        parser.error(
            f'--out must end with {" or ".join(suffixes)} for --out-item '
            f'{args.out_item}; --out-item metrics writes .json'
        )
    return args


def show_in(cfg: Config, folder: str) -> None:
    """Let the visualization hook draw the predictions into a folder."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not hook:
        raise ConfigError('--show-dir needs default_hooks.visualization in the config')
    if cfg.get('default_scope') == 'mmseg':
        hook.update(draw=True, interval=1)
        cfg.visualizer.save_dir = folder
    else:
        hook.update(enable=True, interval=1, out_dir=folder)


def use_tta(cfg: Config) -> None:
    """Let the config's test-time augmentation wrap its model and data."""
    if not cfg.get('tta_model') or not cfg.get('tta_pipeline'):
        raise ConfigError('--tta needs tta_model and tta_pipeline in the config')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict({**cfg.tta_model, 'module': cfg.model})


def check_loop(loop: BaseLoop, args: argparse.Namespace) -> None:
    """Compare what is asked for with what the config's loop can do.

    Raises:
        ConfigError: If a trained head is tested without its checkpoint, or predictions
            are wanted of a loop that makes none.
    """
    frozen = isinstance(loop, FrozenFeatureLoop)
    if not args.checkpoint and not frozen:
        raise ConfigError(
            f'CHECKPOINT is missing: tools/test.py {args.config} CHECKPOINT. Without it '
            'there would be a random head; only loops that need nothing but a backbone, '
            'such as LinearProbeLoop, take the weights of init_cfg'
        )
    predicts = not (frozen or isinstance(loop, SelfSupTestLoop))
    if args.out and args.out_item == 'pred' and not predicts:
        raise ConfigError(
            f'--out: {type(loop).__name__} makes no predictions; --out-item metrics '
            'writes its metrics'
        )


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Test.

    Args:
        argv (Sequence[str], optional): The arguments; those of the process by default.

    Returns:
        dict[str, float]: The metrics, e.g. ``accuracy/top1`` or ``mIoU``, in percent.

    Raises:
        ConfigError: For everything that the user can mend.
    """
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    cfg.load_from, cfg.resume = args.checkpoint or None, False
    if args.show_dir:
        show_in(cfg, args.show_dir)
    if args.tta:
        use_tta(cfg)
    runner = build_runner(cfg, 'test')
    check_loop(runner.test_loop, args)
    if args.out and args.out_item == 'pred':
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if is_main_process():
        for name, value in metrics.items():
            print(
                f'{name}: {value:.4f}'
                if isinstance(value, (float, np.floating))
                else f'{name}: {value}'
            )
        if args.out and args.out_item == 'metrics':
            mmengine.dump(metrics, args.out)
    return metrics


if __name__ == '__main__':
    run_cli(main)
