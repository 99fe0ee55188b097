# Copyright (c) mmcim contributors. All rights reserved.
"""Measure speed, memory and operations of a training step, on one GPU or on the CPU.

Takes configs of pre-training and of classifiers, and prints a table for each. No file is
needed: the images are noise in memory (the copy to the device is measured, the data
loader is not), and OpenAI's tokenizer gets random weights. Everything else is a training
step as ``mmcim train`` runs it, without hooks such as the momentum encoder's update.
With ``--data-root`` they come from a folder by the config's data loader, and ``data`` is
the time that a step waits for it. With ``--loader`` the data loader alone is measured:
one process of it, on the images of the config or of the folder. Times ``num_workers``,
that is what a training can get.

``preprocess`` is the data preprocessor. The forward pass is divided into ``encode``,
``generator``, ``decode`` and ``enhancer`` for CIM, and ``loss`` for other methods. A GPU
is waited for where a part begins and ends.

``% of peak`` compares the operations per second with those of a large matrix product in
the same precision, measured in the same run. With ``--against stock`` the same step is
composed of mmpretrain's and OpenAI's own parts, and takes turns; of ``--loader`` it is
resizing and RandAugment. With ``--sync-check`` nothing is timed: a short run with all
hooks counts for what the host would wait.

Operations are counted by torch.utils.flop_counter in one more step, of two images, and
printed in billions of multiply-accumulates (GMAC) per image.

Example: mmcim benchmark configs/cim/vit-b_8xb256-300e.py --batch-size 64
"""

import argparse
import gc
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..engine import StrictRunner
from ..engine.compiling import compile_networks
from ..engine.host_waits import HostWaitsHook
from ..models.selfsup import CIM
from ..utils import explain_build_errors, load_config
from ..utils.precision import set_tf32
from .stock import stock_config, stock_pipeline
from .synthetic import build, innermost_dataset, needs_no_file, synthetic_batch

COUNTED_IMAGES = 2  # the fewest that batch norm takes


def run(args: argparse.Namespace) -> None:
    """Measure.

    Args:
        args: The command line.

    Raises:
        ConfigError: If a config cannot be read or built.
    """
    MMLogger.get_current_instance().setLevel('WARNING')  # not how weights are initialised
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    print(f'{name}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}')
    for path in args.configs:
        if args.sync_check:
            count_waits(path, args)
        else:
            (measure_loader if args.loader else measure)(path, args)
        gc.collect()  # the watched methods and their objects refer to each other


class Stopwatch:
    """Sums up what a clock says of the calls of methods, by name of a part.

    Attributes:
        clock: Gives seconds or operations.
        totals: Part -> seconds or operations of all of its calls.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.totals = defaultdict[str, float](float)

    def watch(self, model: BaseModel, optim_wrapper: OptimWrapper) -> None:
        """Measure the training step and each of its parts from now on."""
        parts: list[tuple[str, Any, str]] = [
            ('step', model, 'train_step'),
            ('preprocess', model.data_preprocessor, 'forward'),
            ('backward', optim_wrapper, 'backward'),
            ('optimizer', optim_wrapper, 'step'),
        ]
        if isinstance(model, CIM):
            parts += [(name, model.tokenizer, name) for name in ('encode', 'decode')]
            names = ('predict', 'sample', 'loss')
            parts += [('generator', model.generator, name) for name in names]
            parts += [('enhancer', model.enhancer, 'loss')]
        else:
            parts += [('loss', model, 'loss')]
        for part, owner, name in parts:
            if owner:  # a tokenizer and a generator may be left out
                setattr(owner, name, partial(self.measure, part, getattr(owner, name)))

    def measure(self, part: str, call: Callable, *args: Any, **kwargs: Any) -> Any:
        """Call, and add what the clock says to a part."""
        start = self.clock()
        result = call(*args, **kwargs)
        self.totals[part] += self.clock() - start
        return result


def seconds() -> float:
    """Tell the time at which a GPU has done all that it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def count_gmacs(
    watch: Stopwatch, model: BaseModel, optim_wrapper: OptimWrapper, batch: dict
) -> dict[str, float]:
    """Count the operations of a training step of ``COUNTED_IMAGES`` images.

    Args:
        watch: What measures the parts; left with another clock.
        model: In training mode.
        optim_wrapper: Its optimizer.
        batch: What the loader gives.

    Returns:
        Part -> GMAC per image, and 'step' -> those of the whole step.
    """
    torch.manual_seed(0)  # the number of masked patches may be random
    watch.totals.clear()
    # Fused attention on a CPU has no formula; this kind consists of counted products.
    eager = torch.compiler.set_stance('force_eager')
    with eager, FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        watch.clock = counter.get_total_flops
        model.train_step(batch, optim_wrapper)
    return {part: n / 2e9 / COUNTED_IMAGES for part, n in watch.totals.items()}


class Training:
    """A model in training, and what its parts cost.

    Args:
        cfg: The complete config; what needs a file of weights is replaced in it.
        batch_size: Number of images.
        data_root: Their folder. Without one they are noise in memory.

    Attributes:
        watch: Measures the parts.
        dtype: Of matrix products and convolutions.
    """

    def __init__(self, cfg: Config, batch_size: int, data_root: str | None) -> None:
        torch.manual_seed(0)
        env = cfg.get('env_cfg', {})
        torch.backends.cudnn.benchmark = env.get('cudnn_benchmark', False)
        set_tf32(env.get('tf32'))
        self.model = build(cfg).to(get_device())
        if cfg.get('channels_last'):
            self.model.to(memory_format=torch.channels_last)
        compile_networks(self.model, cfg.get('compile'))
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.dtype = getattr(self.optim_wrapper, 'cast_dtype', torch.float32)
        self.batch_size = batch_size
        self.few = synthetic_batch(cfg, COUNTED_IMAGES)
        if data_root:
            self.batches = load_batches(cfg, batch_size, data_root)
        else:
            self.batches = itertools.repeat(synthetic_batch(cfg, batch_size))
        self.watch = Stopwatch(seconds)
        self.watch.watch(self.model, self.optim_wrapper)

    def step(self) -> None:
        """Train with the next batch."""
        batch = self.watch.measure('data', next, self.batches)
        losses = self.model.train_step(batch, self.optim_wrapper)
        self.loss = losses['loss'].item()

    def table(self, name: str, steps: int, peak: float) -> tuple[str, float]:
        """Describe what has been measured, and count the operations of one more step.

        Args:
            name: To print.
            steps: Those that have been timed.
            peak: The fastest matrix product's GMAC/s.

        Returns:
            Lines of text, and images per second.
        """
        spent = dict(self.watch.totals)
        gmacs = count_gmacs(self.watch, self.model, self.optim_wrapper, self.few)
        total = spent.pop('step') + spent['data']
        spent |= dict(other=total - sum(spent.values()), step=total)
        images = self.batch_size * steps
        lines = [
            f'\n{name}: batch {self.batch_size}, {images / total:.1f} images/s, '
            f'{1000 * total / steps:.1f} ms/step, last loss {self.loss:.4f}',
            f'{"part":10}{"% of time":>12}{"GMAC/image":>12}{"% of peak":>12}',
        ]
        for part, value in spent.items():
            count = gmacs.get(part, 0)
            reached = 100 * count * images / value / peak if value else 0
            fraction = 100 * value / total
            lines.append(f'{part:10}{fraction:12.1f}{count:12.2f}{reached:12.1f}')
        return '\n'.join(lines), images / total


def load_batches(
    cfg: Config, batch_size: int, data_root: str | None, **options: Any
) -> Iterator:
    """Give what the loader of a config reads, without an end.

    Args:
        cfg: The complete config; changed in place.
        batch_size: Number of images.
        data_root: Their folder. Without one they are those of the config.
        **options: Other settings of the loader.

    Raises:
        ConfigError: If the loader cannot be built, for example without its images.
    """
    dataset, loader = innermost_dataset(cfg), cfg.train_dataloader
    if data_root:
        images = dict(type='mmpretrain.ImageFolder', data_root=data_root)
        labels = dict(with_label=dataset.get('with_label', True))
        loader.dataset = {**images, **labels, 'pipeline': dataset.pipeline}
    loader.update(batch_size=batch_size, sampler=dict(type='InfiniteSampler'), **options)
    with explain_build_errors(cfg, 'train_dataloader'):
        return iter(StrictRunner.build_dataloader(loader))


def images_per_second(cfg: Config) -> float:
    """Train for a few steps with the images of a config, and time them.

    Batches come in turns of as many as there are workers, the first two of which are
    prefetched: those are not timed.

    Args:
        cfg: The complete config, which is changed.
    """
    logger, loader = MMLogger.get_current_instance(), cfg.train_dataloader
    level = logger.level
    turn = max(1, loader.num_workers)
    steps = turn * -(-5 // turn)
    logger.setLevel('ERROR')  # not how weights are initialised
    try:
        training = Training(cfg, loader.batch_size, innermost_dataset(cfg).data_root)
    finally:
        logger.setLevel(level)
    for step in range(-2 * turn, steps):
        if step == 0:
            start = seconds()
        training.step()
    rate = steps * loader.batch_size / (seconds() - start)
    del training
    gc.collect()  # the watched methods and their objects refer to each other
    return rate


def matmul_speed(dtype: torch.dtype) -> float:
    """Measure a large matrix product, in GMAC/s."""
    device = get_device()
    size = 2048 if device == 'cpu' else 8192
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    times = []
    for _ in range(4):
        start = seconds()
        matrix @ matrix
        times.append(seconds() - start)
    return size**3 / 1e9 / min(times)


def measure(path: str, args: argparse.Namespace) -> None:
    """Train for some steps, time them, and count the operations of one more.

    Prints a line of numbers of the whole step, and a table of its parts.
    """
    cfg, name = load_config(path, args.cfg_options), Path(path).stem
    size = args.batch_size or cfg.train_dataloader.batch_size
    configs = {name: cfg}
    if args.against:
        configs[f'{name} of stock parts'] = stock_config(cfg)
    trainings = {
        name: Training(cfg, size, args.data_root) for name, cfg in configs.items()
    }
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    for step in range(args.warmup + args.steps):
        for training in trainings.values():  # in turn: whatever disturbs, disturbs both
            if step == args.warmup:
                training.watch.totals.clear()
            training.step()
    memory = torch.cuda.max_memory_allocated() / 2**30
    rates = []
    peaks = {kind: matmul_speed(kind) for kind in {t.dtype for t in trainings.values()}}
    for name, training in trainings.items():
        table, rate = training.table(name, args.steps, peaks[training.dtype])
        rates.append(rate)
        print(table)
    for kind, peak in peaks.items():
        print(f'peak: {peak:.0f} GMAC/s, of a matrix product in {kind}')
    if args.against:
        print(f'{rates[0] / rates[1]:.2f} times the images/s of stock parts')
    elif memory:
        print(f'GPU memory at the peak: {memory:.2f} GiB')


def count_waits(path: str, args: argparse.Namespace) -> None:
    """Train for six iterations on digits, and print for what the host would wait.

    Counted are three iterations with all hooks, between two logged lines.
    """
    cfg = load_config(path, args.cfg_options)
    needs_no_file(cfg)
    dataset, loader = innermost_dataset(cfg), cfg.train_dataloader
    digits = dict(type='Digits', split='train', size=dataset.get('size', 256))
    loader.dataset = {**digits, 'pipeline': dataset.pipeline}
    loader.update(num_workers=0, batch_size=args.batch_size or 2)
    loader.sampler = dict(type='InfiniteSampler')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6)
    cfg.update(param_scheduler=None, auto_scale_lr=None)
    cfg.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    cfg.default_hooks.pop('watch', None)
    hook = HostWaitsHook()
    with TemporaryDirectory() as cfg.work_dir, redirect_stdout(StringIO()):
        runner = StrictRunner.from_cfg(cfg)
        runner.register_hook(hook)
        runner.train()
    places = hook.waits.places
    print(f'{Path(path).stem}: {sum(places.values())} waits in 3 iterations')
    for place, number in places.most_common():
        print(f'{number:6} {place}')


def measure_loader(path: str, args: argparse.Namespace) -> None:
    """Time the loading of batches by one process with one thread, and print its speed.

    Raises:
        ConfigError: If the loader cannot be built, for example without its images.
    """
    cfg, name = load_config(path, args.cfg_options), Path(path).stem
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    torch.set_num_threads(1)  # as in each of many
    size = args.batch_size or cfg.train_dataloader.batch_size
    pipelines = {name: innermost_dataset(cfg).pipeline}
    if args.against:
        pipelines[f'{name} with stock transforms'] = stock_pipeline(pipelines[name])
    batches = {}
    for name, pipeline in pipelines.items():
        innermost_dataset(cfg).pipeline = pipeline
        batches[name] = load_batches(cfg, size, args.data_root, num_workers=0)
    watch = Stopwatch(time.perf_counter)
    for step in range(args.warmup + args.steps):
        if step == args.warmup:
            watch.totals.clear()
        for name, loader in batches.items():  # in turn: whatever disturbs, disturbs both
            watch.measure(name, next, loader)
    rates = {name: size * args.steps / spent for name, spent in watch.totals.items()}
    for name, rate in rates.items():
        print(f'{name}: batch {size}, {rate:.1f} images/s of one loader process')
    if args.against:
        ours, stock = rates.values()
        print(f'{ours / stock:.2f} times the images/s with stock transforms')
