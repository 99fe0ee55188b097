# Copyright (c) mmcim contributors. All rights reserved.
"""Measure speed, memory and operations of a training step, on one GPU or on the CPU.

Takes configs of pre-training and of classifiers, and prints a table for each. No file is
needed: the images are noise in memory (the copy to the device is measured, the data
loader is not), and OpenAI's tokenizer gets random weights. Everything else is a training
step as ``mmcim train`` runs it, without hooks such as the momentum encoder's update.

``preprocess`` is the data preprocessor. The forward pass is divided into ``encode``,
``generator``, ``decode`` and ``enhancer`` for CIM, and ``loss`` for other methods. A GPU
is waited for where a part begins and ends.

Operations are counted by torch.utils.flop_counter in one more step, of two images, and
printed in billions of multiply-accumulates (GMAC) per image.

Example: mmcim benchmark configs/cim/vit-b_8xb256-300e.py --batch-size 64
"""

import argparse
import gc
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import FUNCTIONS
from mmpretrain.models import BaseSelfSupervisor, ImageClassifier
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ..engine.activation_checkpointing import checkpoint_activations
from ..models.selfsup import CIM
from ..models.tokenizers import DALLETokenizer
from ..models.tokenizers.dalle import _Decoder, _Encoder
from ..utils import explain_build_errors, load_config
from .show import build_model

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
        measure(path, args)
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
                setattr(owner, name, partial(self._measure, part, getattr(owner, name)))

    def _measure(self, part: str, call: Callable, *args: Any, **kwargs: Any) -> Any:
        start = self.clock()
        result = call(*args, **kwargs)
        self.totals[part] += self.clock() - start
        return result


def seconds() -> float:
    """Tell the time at which a GPU has done all that it was asked for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class RandomDALLETokenizer(DALLETokenizer):
    """OpenAI's dVAE in its full size, with random weights."""

    def _load(self, checkpoint: str) -> Any:
        sizes = dict(n_hid=256, n_blocks=2, vocab_size=8192)
        parts = dict(encoder=_Encoder(**sizes), decoder=_Decoder(**sizes, n_init=128))
        found = nn.ModuleDict(parts).state_dict()
        scaled = {k: torch.randn_like(t) * t[0].numel() ** -0.5 for k, t in found.items()}
        return self.build(scaled, checkpoint)


def build(cfg: Config) -> BaseModel:
    """Build and initialise a config's model.

    Args:
        cfg: The complete config; what needs a file of weights is replaced in it.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: If the model rejects its arguments, or it is neither a pre-training
            nor a classifier.
    """
    # Weights change no speed, and the files may be missing.
    if cfg.model.get('backbone'):
        cfg.model.backbone.init_cfg = None
    if (cfg.model.get('tokenizer') or {}).get('type') == 'DALLETokenizer':
        cfg.model.tokenizer = dict(type=RandomDALLETokenizer, checkpoint='random')
    model = build_model(cfg, BaseSelfSupervisor, ImageClassifier)
    model.init_weights()
    with explain_build_errors(cfg, 'activation_checkpointing'):
        checkpoint_activations(model, cfg.get('activation_checkpointing') or ())
    return model.train()


def synthetic_batch(cfg: Config, batch_size: int) -> dict:
    """Make what the loader would give to the data preprocessor, from noise.

    Args:
        cfg: The complete config.
        batch_size: Images, all of class 0.

    Returns:
        ``inputs``, uint8, and ``data_samples``.
    """
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    pipeline = Compose(dataset.pipeline)
    # Digits come in the size that is asked for, and loaders leave such an array alone.
    side = dataset.get('size', 256)
    shape = dict(img_shape=(side, side), ori_shape=(side, side))
    images = torch.randint(256, (batch_size, side, side, 3), dtype=torch.uint8).numpy()
    samples: Any = [pipeline(dict(img=image, gt_label=0, **shape)) for image in images]
    collate = FUNCTIONS.get(cfg.train_dataloader.collate_fn.type)
    pin = torch.cuda.is_available()
    return next(iter(DataLoader(samples, batch_size, collate_fn=collate, pin_memory=pin)))


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
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        watch.clock = counter.get_total_flops
        model.train_step(batch, optim_wrapper)
    return {part: n / 2e9 / COUNTED_IMAGES for part, n in watch.totals.items()}


def measure(path: str, args: argparse.Namespace) -> None:
    """Train for some steps, time them, and count the operations of one more.

    Prints a line of numbers of the whole step, and a table of its parts.
    """
    cfg, device = load_config(path, args.cfg_options), get_device()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = cfg.get('env_cfg', {}).get('cudnn_benchmark', False)
    model = build(cfg).to(device)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    size = args.batch_size or cfg.train_dataloader.batch_size
    batch = synthetic_batch(cfg, size)
    watch = Stopwatch(seconds)
    watch.watch(model, optim_wrapper)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    for step in range(args.warmup + args.steps):
        if step == args.warmup:
            watch.totals.clear()
        loss = model.train_step(batch, optim_wrapper)['loss'].item()
    spent = dict(watch.totals)
    memory = torch.cuda.max_memory_allocated() / 2**30
    gmacs = count_gmacs(watch, model, optim_wrapper, synthetic_batch(cfg, COUNTED_IMAGES))
    total = spent.pop('step')
    spent |= dict(other=total - sum(spent.values()), step=total)
    print(
        f'\n{Path(path).stem}: batch {size}, {size * args.steps / total:.1f} images/s, '
        f'{1000 * total / args.steps:.1f} ms/step, peak {memory:.2f} GiB of GPU memory, '
        f'last loss {loss:.4f}\n{"part":10}{"% of time":>12}{"GMAC/image":>12}'
    )
    for part, value in spent.items():
        print(f'{part:10}{100 * value / total:12.1f}{gmacs.get(part, 0):12.2f}')
