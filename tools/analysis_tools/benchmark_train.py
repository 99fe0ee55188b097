#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Measure speed and memory of a pre-training, on one GPU or on the CPU.

The pictures are synthetic and lie in memory: the copy to the device counts, the data
loader does not. Everything else is a training step as tools/train.py does it, except
that hooks do not run, such as the one that moves a momentum encoder.

``views`` is the data preprocessor. The forward pass is divided into ``encode``,
``generator``, ``decode`` and ``enhancer`` for CIM, and ``loss`` for other methods.

Example: ``python tools/analysis_tools/benchmark_train.py
configs/cim/vit-b_8xb256-300e.py --random-tokenizer``
"""

import argparse
import gc
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from mmcim.evaluation import binary_auc
from mmcim.models.selfsup import CIM
from mmcim.utils import ConfigError, ConfigOptions, load_config, run_cli, scale_lr
from mmcim.utils.config_keys import check_keys

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.analysis_tools.common import build, print_table  # noqa: E402
from tools.analysis_tools.method_costs import noise  # noqa: E402

PARTS = ('views', 'encode', 'generator', 'decode', 'enhancer', 'loss')
PARTS += ('backward', 'optimizer')


class Measurement(NamedTuple):
    """What a config took.

    Attributes:
        name (str): Of the config.
        batch_size (int): Pictures per step.
        step (float): Seconds per step, on average.
        memory (float): Peak of the GPU memory in GiB, NaN on a CPU.
        shares (dict[str, float]): Part -> share of the step, adding up to 1.
        losses (Tensor): The loss of each step, warm-up included, (steps,).
    """

    name: str
    batch_size: int
    step: float
    memory: float
    shares: dict[str, float]
    losses: Tensor


class Stopwatch:
    """Times calls by name; on a GPU by events, for which nothing waits."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == 'cuda'
        self.spans = defaultdict(list)

    def watch(self, owner: object, method: str, part: str) -> None:
        """Replace a method of one object by itself with a clock around it."""
        call = getattr(owner, method)

        @wraps(call)
        def timed(*args, **kwargs) -> Any:
            start = self._now()
            result = call(*args, **kwargs)
            self.spans[part].append((start, self._now()))
            return result

        setattr(owner, method, timed)

    def seconds(self, part: str) -> float:
        """Sum over all calls of a part."""
        return sum(self._between(*span) for span in self.spans[part])

    def overall(self, part: str) -> float:
        """Seconds from the start of the first call to the end of the last."""
        return self._between(self.spans[part][0][0], self.spans[part][-1][1])

    def _now(self) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        if not self.on_gpu:
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000


def prepare(path: str, args: argparse.Namespace) -> Config:
    """Read a pre-training's config and put the command line's wishes into it."""
    cfg = load_config(path, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.get(cfg.get('model', {}).get('type', ''))
    if not (isinstance(model, type) and issubclass(model, BaseSelfSupervisor)):
        raise ConfigError(f'{path} is no pre-training')
    if cfg.model.get('masking', True) is None:
        raise ConfigError(f'{path} takes masks from the loader, which is not measured')
    check_keys(cfg)
    if args.batch_size:
        cfg.train_dataloader.batch_size = args.batch_size
    scale_lr(cfg, world_size=1)
    return cfg


def synthetic_batch(cfg: Config, pin: bool) -> dict:
    """What the data preprocessor gets: one crop of each picture, or two."""
    inputs = noise(cfg, cfg.train_dataloader.batch_size)['inputs']
    return dict(inputs=tree_map(Tensor.pin_memory, inputs) if pin else inputs)


def check_sync(model: nn.Module, batch: dict) -> None:
    """Raise an error if views, masks or CIM's AUC make the host wait for the GPU.

    MAE draws its masks within its encoder, where they are not checked.
    """
    batch = tree_map(Tensor.cuda, batch)
    torch.cuda.set_sync_debug_mode('error')
    try:
        images = model.data_preprocessor(batch, training=True)['inputs']['images']
        if isinstance(model, CIM):
            mask = model.draw_mask(images, None)
            binary_auc(torch.rand(mask.shape, device=mask.device), mask)
        elif hasattr(model, 'masking'):
            grid = tuple(model.backbone.patch_resolution)
            model.masking(len(images), grid, images.device)
    finally:
        torch.cuda.set_sync_debug_mode('default')


def measure(
    path: str, cfg: Config, args: argparse.Namespace, device: torch.device
) -> Measurement:
    """Train for some steps and time them."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = cfg.get('env_cfg', {}).get('cudnn_benchmark', False)
    model = build(cfg, args.random_tokenizer).to(device)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = synthetic_batch(cfg, pin=device.type == 'cuda')
    if args.sync_check:
        check_sync(model, batch)

    watch = Stopwatch(device)
    watch.watch(model, 'train_step', 'step')
    watch.watch(model.data_preprocessor, 'forward', 'views')
    if isinstance(model, CIM):
        if model.generator is not None:
            watch.watch(model.tokenizer, 'encode', 'encode')
            watch.watch(model.tokenizer, 'decode', 'decode')
            for method in ('predict', 'sample', 'loss_from_logits'):
                watch.watch(model.generator, method, 'generator')
        watch.watch(model.enhancer, 'loss', 'enhancer')
    else:
        watch.watch(model, 'loss', 'loss')
    watch.watch(optim_wrapper, 'backward', 'backward')
    watch.watch(optim_wrapper, 'step', 'optimizer')

    losses = []
    for step in range(args.warmup + args.steps):
        if step == args.warmup:
            watch.spans.clear()
            if watch.on_gpu:
                torch.cuda.reset_peak_memory_stats()
        losses.append(model.train_step(batch, optim_wrapper)['loss'])

    total = watch.overall('step')
    shares = {part: watch.seconds(part) / total for part in PARTS}
    shares['other'] = 1 - sum(shares.values())
    memory = torch.cuda.max_memory_allocated() / 2**30 if watch.on_gpu else float('nan')
    return Measurement(
        name=Path(path).stem,
        batch_size=cfg.train_dataloader.batch_size,
        step=total / args.steps,
        memory=memory,
        shares=shares,
        losses=torch.stack(losses).detach().float().cpu(),
    )


def report(results: Sequence[Measurement], device: torch.device) -> None:
    """Print the machine, what the configs took, and where the time went."""
    on_gpu = device.type == 'cuda'
    name = torch.cuda.get_device_name() if on_gpu else platform.machine() + ' CPU'
    threads = '' if on_gpu else f', threads: {torch.get_num_threads()}'
    print(f'\n{name}{threads}, torch {torch.__version__}')
    head = ('config', 'batch', 'images/s', 'ms/step', 'peak GiB')
    head += ('first loss', 'last loss', 'NaN or inf')
    rows = [
        (
            r.name,
            r.batch_size,
            f'{r.batch_size / r.step:.1f}',
            f'{1000 * r.step:.1f}',
            f'{r.memory:.2f}' if on_gpu else '-',
            f'{r.losses[0]:.4f}',
            f'{r.losses[-1]:.4f}',
            'no' if r.losses.isfinite().all() else 'YES',
        )
        for r in results
    ]
    print_table([head, *rows])
    print('\nShare of the step in %')
    parts = (*PARTS, 'other')
    rows = [(r.name, *(f'{100 * r.shares[part]:.1f}' for part in parts)) for r in results]
    print_table([('config', *parts), *rows])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='pre-trainings')
    parser.add_argument('--steps', type=int, default=100, help='steps to time')
    parser.add_argument('--warmup', type=int, default=10, help='steps before them')
    parser.add_argument('--batch-size', type=int, help="in place of the config's")
    parser.add_argument(
        '--random-tokenizer',
        action='store_true',
        help='random weights of full size for the tokenizer: nothing to download',
    )
    parser.add_argument(
        '--sync-check',
        action='store_true',
        help='on a GPU: stop if views, masks or AUC make the host wait for it',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[Measurement]:
    """Measure.

    Args:
        argv (Sequence[str], optional): The arguments; those of the process by default.

    Returns:
        list[Measurement]: One per config.

    Raises:
        ConfigError: For everything that the user can mend.
    """
    args = parse_args(argv)
    if args.steps < 1 or args.warmup < 0 or (args.batch_size or 1) < 1:
        raise ConfigError('--steps and --batch-size must be at least 1, --warmup 0')
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if args.sync_check and device.type == 'cpu':
        raise ConfigError('--sync-check needs a GPU')
    configs = {path: prepare(path, args) for path in args.configs}
    results = []
    for path, cfg in configs.items():
        try:
            results.append(measure(path, cfg, args, device))
        except torch.cuda.OutOfMemoryError as error:
            raise ConfigError(
                f'{path}: {cfg.train_dataloader.batch_size} pictures are too many for '
                'the memory of the GPU; give a smaller --batch-size'
            ) from error
        # The timed methods and their objects refer to each other.
        gc.collect()
        torch.cuda.empty_cache()
    report(results, device)
    return results


if __name__ == '__main__':
    run_cli(main)
