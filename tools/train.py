#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Train a tokenizer, pre-train, or train a classifier or segmentor.

Example: ``python tools/train.py configs/cim/vit-b_8xb256-300e.py --resume``
"""

import argparse
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.runner import Runner

from mmcim.utils import add_run_options, build_runner, load_config, run_cli


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from a checkpoint; without a name from the latest one in the work '
        'directory, or start from scratch if there is none',
    )
    parser.add_argument(
        '--override',
        action='store_true',
        help="resume with the config's settings where the checkpoint's differ",
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision for a config that has none: bfloat16 on a GPU that '
        'supports it, float32 elsewhere',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not evaluate during training'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the effective batch',
    )
    add_run_options(parser)
    return parser.parse_args(argv)


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Put the command line's options into the config."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp and cfg.optim_wrapper.get('type', 'OptimWrapper') == 'OptimWrapper':
        cfg.optim_wrapper.type = 'mmpretrain.AutoAmpOptimWrapper'
    if args.auto_scale_lr:
        cfg.merge_from_dict({'auto_scale_lr.enable': True})
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.override:
        cfg.override = True


def main(argv: Sequence[str] | None = None) -> Runner:
    """Train.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        The runner, after training.

    Raises:
        ConfigError: For everything that the user can fix, before training starts.
    """
    args = parse_args(argv)
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher, args.pretrained
    )
    merge_args(cfg, args)
    runner = build_runner(cfg, 'train')
    runner.train()
    return runner


if __name__ == '__main__':
    run_cli(main)
