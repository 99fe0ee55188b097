# Copyright (c) mmcim contributors. All rights reserved.
"""Train a tokenizer, pre-train, or train a classifier or segmentor.

Example: mmcim train configs/cim/vit-b_8xb256-300e.py --resume
"""

import argparse
import os
from contextlib import suppress
from importlib import import_module

from mmengine.config import Config
from mmengine.runner import Runner

from mmcim_cli import quiet

from ..utils import ConfigError, build_runner, load_config


def run(args: argparse.Namespace) -> Runner:
    """Train.

    Args:
        args: The command line.

    Returns:
        The runner, after training.

    Raises:
        ConfigError: For everything that the user can fix, before training starts.
    """
    cfg = read_config(args)
    merge_args(cfg, args)
    if not args.resume and not args.pretrained:
        check_initial_weights(cfg)
    runner = build_runner(cfg, 'train')
    runner.train()
    return runner


def read_config(args: argparse.Namespace) -> Config:
    """Read the config of a training or test, and import what it is built from."""
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher, args.pretrained
    )
    with quiet(), suppress(ImportError):  # an unknown scope is an error later
        import_module(f'{cfg.get("default_scope") or "mmpretrain"}.datasets')
    return cfg


def check_initial_weights(cfg: Config) -> None:
    """Look for the backbone that the config begins with.

    Raises:
        ConfigError: If the file is not there. Many configs name that of one pre-training.
    """
    model = cfg.get('model') or {}
    for part in (model, model.get('backbone') or {}):
        init_cfg = part.get('init_cfg')
        file = init_cfg.get('checkpoint') if isinstance(init_cfg, dict) else None
        if file and '://' not in file and not os.path.isfile(os.path.expanduser(file)):
            raise ConfigError(
                f'init_cfg: checkpoint {file} does not exist; --pretrained FILE takes '
                'another one'
            )


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
