# Copyright (c) mmcim contributors. All rights reserved.
"""Train a tokenizer, pre-train, or train a classifier, segmentor or detector.

Example: mmcim train configs/cim/vit-b_8xb256-300e.py --resume
"""

import argparse
import os

from mmengine.config import Config
from mmengine.runner import Runner

from mmcim_cli import quiet

from ..engine.terminal import what_is_next
from ..utils import ConfigError, build_runner, load_config
from ..utils.launch import initial_weights


def run(args: argparse.Namespace) -> Runner:
    """Train, and say what can be done with the result; see :func:`train`."""
    runner = train(args)
    if text := what_is_next(runner):
        runner.logger.info(text)
    return runner


def train(args: argparse.Namespace) -> Runner:
    """Train.

    Args:
        args: The command line.

    Returns:
        The runner, after training.

    Raises:
        ConfigError: For everything that the user can fix, before training starts.
    """
    cfg = read_config(args, args.resume)
    merge_args(cfg, args)
    runner = build_runner(cfg, 'train')
    runner.train()
    return runner


def read_config(args: argparse.Namespace, checkpoint: str | None) -> Config:
    """Read the config of a training or test, and import what it is built from.

    Args:
        args: The command line.
        checkpoint: What has all of the weights.

    Raises:
        ConfigError: If it cannot be read, or the weights that it begins with are missing:
            many configs name those of one pre-training.
    """
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher, args.pretrained
    )
    for file in () if checkpoint or args.pretrained else initial_weights(cfg):
        if '://' not in file and not os.path.isfile(os.path.expanduser(file)):
            raise ConfigError(f'init_cfg: {file} does not exist; pass --pretrained FILE')
    if cfg.get('default_scope') == 'mmseg':
        with quiet():
            import mmseg.datasets  # noqa: F401
    return cfg


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Put the command line's options into the config."""
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp and cfg.optim_wrapper.get('type', 'OptimWrapper') == 'OptimWrapper':
        cfg.optim_wrapper.type = 'mmpretrain.AutoAmpOptimWrapper'
        if cfg.get('default_scope') == 'mmdet':
            # mmdetection computes boxes in the precision of the maps: of 1,024 px
            # bfloat16 has every eighth.
            cfg.optim_wrapper.precision = 'float16'
    if args.auto_scale_lr:
        cfg.merge_from_dict({'auto_scale_lr.enable': True})
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    cfg.override = args.override or cfg.get('override', False)
