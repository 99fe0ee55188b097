# Copyright (c) mmcim contributors. All rights reserved.
"""Test a classifier, segmentor, detector, tokenizer or pre-training: its metrics.

Example: mmcim test CONFIG CHECKPOINT
"""

import argparse

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from ..engine.data_parallel import collect_device
from ..evaluation import FrozenFeatureLoop, MetricsLoop
from ..utils import ConfigError, build_runner
from .train import read_config


def run(args: argparse.Namespace) -> dict[str, float]:
    """Test.

    Args:
        args: The command line.

    Returns:
        The metrics, e.g. ``accuracy/top1`` or ``mIoU``, in percent;
        ``coco/bbox_mAP`` and ``coco/segm_mAP`` in 0..1.

    Raises:
        ConfigError: For everything that the user can fix.
    """
    cfg = read_config(args, args.checkpoint)
    merge_args(cfg, args)
    runner = build_runner(cfg, 'test')
    prepare_loop(runner, args)
    metrics = runner.test()
    if args.out and args.out.suffix == '.json' and is_main_process():
        mmengine.dump(metrics, args.out, default=lambda array: array.tolist())
    return metrics


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
        if cfg.get('default_scope') in ('mmseg', 'mmdet'):
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
            f'CHECKPOINT is missing: mmcim test {args.config} CHECKPOINT; a random head '
            'is only tested by loops that need a backbone alone, such as LinearProbeLoop'
        )
    if args.out and args.out.suffix == '.pkl':
        if isinstance(loop, MetricsLoop):
            raise ConfigError('--out: this loop has no predictions, only metrics (.json)')
        dump = DumpResults(str(args.out), collect_device=collect_device())
        runner.test_evaluator.metrics.append(dump)
