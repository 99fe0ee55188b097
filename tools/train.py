#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Train a tokenizer, pre-train, or train a classifier or segmentor.

Example: ``python tools/train.py configs/cim/vit-b_8xb256-300e.py --resume``
"""

import argparse
import os
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.runner import Runner, find_latest_checkpoint

from mmcim.checkpoints import load_checkpoint
from mmcim.utils import (
    ConfigError,
    add_cfg_options,
    build_runner,
    init_distributed,
    load_config,
    run_cli,
    scale_lr,
)
from mmcim.utils.launch import check_together, drop_pretrained


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; work_dirs/CONFIG by default',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a name from the latest one in the work '
        'directory, or from the start if there is none',
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
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, help='set by some launchers'
    )
    args = parser.parse_args(argv)
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Put the command line's wishes into the config."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp and cfg.optim_wrapper.get('type', 'OptimWrapper') == 'OptimWrapper':
        cfg.optim_wrapper.type = 'mmpretrain.AutoAmpOptimWrapper'
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr'):
            raise ConfigError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in the config'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        if args.resume != 'auto':
            cfg.load_from = args.resume


def settle_resume(cfg: Config, auto: bool) -> None:
    """Find the checkpoint to resume from and make sure that it can be loaded safely.

    Args:
        cfg (Config): With ``work_dir``; its ``resume`` and ``load_from`` are settled.
        auto (bool): Take the latest checkpoint in the work directory.

    Raises:
        ConfigError: If the checkpoint is missing, damaged, brings code along, or is of
            no training.
    """
    if not auto:
        check_training(cfg.load_from)
        return
    latest = find_latest_checkpoint(cfg.work_dir)
    if latest is None:
        print_log(
            f'There is no checkpoint in {cfg.work_dir}: training starts anew.',
            logger='current',
        )
        cfg.resume = False
        return
    # The folder may have been moved since.
    moved = os.path.join(cfg.work_dir, os.path.basename(latest))
    cfg.load_from = moved if os.path.isfile(moved) else latest
    if not os.path.isfile(cfg.load_from):
        raise ConfigError(
            f'{cfg.work_dir}/last_checkpoint names {latest}, which does not exist; '
            'give a checkpoint by --resume CHECKPOINT'
        )
    check_training(cfg.load_from)


def check_training(filename: str) -> None:
    """Look whether a checkpoint has what a training needs to go on from it.

    Raises:
        ConfigError: If it has not, or cannot be loaded safely.
    """
    checkpoint = load_checkpoint(filename)
    needed = ('state_dict', 'optimizer', 'message_hub', 'meta')
    missing = [key for key in needed if key not in checkpoint]
    if missing:
        raise ConfigError(
            f'no training can go on from checkpoint {filename}, which has no '
            f'{", ".join(missing)} (best_*.pth have weights alone). Resume from another '
            'one, or begin a new run from its weights by load_from instead of --resume'
        )


def main(argv: Sequence[str] | None = None) -> Runner:
    """Train.

    Args:
        argv (Sequence[str], optional): The arguments; those of the process by default.

    Returns:
        Runner: The runner, after training.

    Raises:
        ConfigError: For everything that the user can mend, before training starts.
    """
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    merge_args(cfg, args)
    init_distributed(cfg)
    auto = args.resume == 'auto' or (cfg.get('resume') and not cfg.get('load_from'))
    if cfg.get('resume'):
        check_together(lambda: settle_resume(cfg, auto))
    if cfg.get('resume'):
        drop_pretrained(cfg.get('model'))
    scale_lr(cfg, get_world_size())
    runner = build_runner(cfg, 'train')
    runner.train()
    return runner


if __name__ == '__main__':
    run_cli(main)
