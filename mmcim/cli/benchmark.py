# Copyright (c) mmcim contributors. All rights reserved.
"""Measure speed, memory and operations of a training step, on one GPU or on the CPU.

Takes configs of pre-training and of classifiers, and prints a table for each. The images
are synthetic and in memory: the copy to the device is measured, the data loader is not.
Everything else is a training step as ``mmcim train`` runs it, without hooks such as the
momentum encoder's update.

``preprocess`` is the data preprocessor. The forward pass is divided into ``encode``,
``generator``, ``decode`` and ``enhancer`` for CIM, and ``loss`` for other methods.

Operations are counted by torch.utils.flop_counter in one more step, of two images, and
printed in billions of multiply-accumulates (GMAC) per image.

Example: mmcim benchmark configs/cim/vit-b_8xb256-300e.py --random-tokenizer
"""

import argparse
import gc
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import FUNCTIONS, init_default_scope
from mmpretrain.models import ImageClassifier
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from ..models.selfsup import CIM
from ..models.tokenizers import DiscreteVAENet
from ..models.tokenizers.dalle import _Decoder, _Encoder
from ..utils import explain_build_errors, load_config

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
        clock: Gives seconds; or CUDA events, for which nothing waits; or operations.
        spans: Part -> what the clock said before and after each call.
    """

    def __init__(self, clock: Callable[[], Any]) -> None:
        self.clock = clock
        self.spans = defaultdict[str, list](list)

    def watch(self, part: str, owner: object, *methods: str) -> None:
        """Replace methods of one object by themselves with the clock around them."""
        for name in methods:
            setattr(owner, name, self._around(part, getattr(owner, name)))

    def totals(self) -> dict[str, float]:
        """Part -> seconds or operations of all of its calls."""
        return {
            part: sum(_between(*span) for span in spans)
            for part, spans in self.spans.items()
        }

    def _around(self, part: str, call: Callable) -> Callable:
        def watched(*args: Any, **kwargs: Any) -> Any:
            start = self.clock()
            result = call(*args, **kwargs)
            self.spans[part].append((start, self.clock()))
            return result

        return watched


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start: Any, end: Any) -> float:
    if not isinstance(start, torch.cuda.Event):
        return end - start
    end.synchronize()
    return start.elapsed_time(end) / 1000


def random_tokenizer(model: dict, folder: str) -> str:
    """Write a tokenizer of full size with random weights.

    Args:
        model: Config of a model with a tokenizer. A ``DiscreteVAE`` gets its grid and
            vocabulary, and the default width and depth.
        folder: Where to write.

    Returns:
        The path for ``model.tokenizer.checkpoint``.

    Raises:
        ValueError: If it is neither OpenAI's dVAE nor one of this project.
    """
    kind = model['tokenizer']['type']
    if kind == 'DALLETokenizer':
        # The sizes of OpenAI's modules.
        sizes = dict(n_hid=256, n_blocks=2, vocab_size=8192)
        net = nn.ModuleDict(
            dict(encoder=_Encoder(**sizes), decoder=_Decoder(**sizes, n_init=128))
        )
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    elif kind == 'DiscreteVAE':
        generator = model.get('generator', model)
        backbone = generator['backbone']
        size = backbone.get('img_size', 224)
        side = (model['data_preprocessor'] or {}).get('tokenizer_size') or size
        stride = side * backbone.get('patch_size', 16) // size
        net = DiscreteVAENet(stride, generator['head']['vocab_size'])
    else:
        raise ValueError(
            '--random-tokenizer is for a DALLETokenizer or a DiscreteVAE; for a '
            f'{kind} set model.tokenizer.checkpoint'
        )
    save_file(net.state_dict(), f'{folder}/tokenizer.safetensors')
    return f'{folder}/tokenizer.safetensors'


def build(cfg: Config, random: bool) -> BaseModel:
    """Build and initialise a config's model.

    Args:
        cfg: The complete config.
        random: Whether its tokenizer, if it has one, gets random weights of full size
            instead of those of its file.

    Returns:
        The model, in training mode.

    Raises:
        BuildError: If the model rejects its arguments, a file is missing, or it is
            neither a pre-training nor a classifier.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = {'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}
    if model.get('backbone'):
        # Weights change no speed, and the file may be missing.
        model['backbone'] = {**model['backbone'], 'init_cfg': None}
    with tempfile.TemporaryDirectory() as folder, explain_build_errors(cfg, 'model'):
        if random and model.get('tokenizer'):
            checkpoint = random_tokenizer(model, folder)
            model['tokenizer'] = {**model['tokenizer'], 'checkpoint': checkpoint}
        model = MODELS.build(model)
        if not isinstance(model, (BaseSelfSupervisor, ImageClassifier)):
            kind = type(model).__name__
            raise ValueError(f'{kind} is neither a pre-training nor a classifier')
        model.init_weights()
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
    random = np.random.default_rng(0)
    samples = []
    for _ in range(batch_size):
        image = random.integers(256, size=(side, side, 3), dtype=np.uint8)
        shape = dict(img_shape=(side, side), ori_shape=(side, side))
        samples.append(pipeline(dict(img=image, gt_label=0, **shape)))
    batch = FUNCTIONS.get(cfg.train_dataloader.collate_fn.type)(samples)
    if torch.cuda.is_available():  # as loaders do
        batch['inputs'] = tree_map(Tensor.pin_memory, batch['inputs'])
    return batch


def watch_parts(watch: Stopwatch, model: nn.Module, optim_wrapper: OptimWrapper) -> None:
    """Measure the training step and each of its parts from now on."""
    watch.watch('step', model, 'train_step')
    watch.watch('preprocess', model.data_preprocessor, 'forward')
    if isinstance(model, CIM):
        if model.generator is not None:
            watch.watch('encode', model.tokenizer, 'encode')
            watch.watch('decode', model.tokenizer, 'decode')
            methods = ('predict', 'sample', 'loss_from_logits')
            watch.watch('generator', model.generator, *methods)
        watch.watch('enhancer', model.enhancer, 'loss')
    else:
        watch.watch('loss', model, 'loss')
    watch.watch('backward', optim_wrapper, 'backward')
    watch.watch('optimizer', optim_wrapper, 'step')


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
    watch.spans.clear()
    # Fused attention on a CPU has no formula; this kind consists of counted products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        watch.clock = counter.get_total_flops
        model.train_step(batch, optim_wrapper)
    flops = watch.totals()
    return {part: count / 2e9 / COUNTED_IMAGES for part, count in flops.items()}


def measure(path: str, args: argparse.Namespace) -> None:
    """Train for some steps, time them, count the operations of one more, and print."""
    cfg, on_gpu = load_config(path, args.cfg_options), torch.cuda.is_available()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = cfg.get('env_cfg', {}).get('cudnn_benchmark', False)
    model = build(cfg, args.random_tokenizer).to('cuda' if on_gpu else 'cpu')
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch_size = args.batch_size or cfg.train_dataloader.batch_size
    batch = synthetic_batch(cfg, batch_size)
    watch = Stopwatch(_event if on_gpu else time.perf_counter)
    watch_parts(watch, model, optim_wrapper)
    losses = []
    for step in range(args.warmup + args.steps):
        if step == args.warmup:
            watch.spans.clear()
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
        losses.append(model.train_step(batch, optim_wrapper)['loss'].detach())
    seconds = watch.totals()
    memory = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0
    trace = torch.stack(losses).float()
    gmacs = count_gmacs(watch, model, optim_wrapper, synthetic_batch(cfg, COUNTED_IMAGES))
    total = seconds.pop('step')
    print(
        f'\n{Path(path).stem}: batch {batch_size}, {batch_size * args.steps / total:.1f} '
        f'images/s, {1000 * total / args.steps:.1f} ms/step, '
        f'{f"peak {memory:.2f} GiB, " if on_gpu else ""}loss {trace[0]:.4f} to '
        f'{trace[-1]:.4f}, NaN or inf: {"no" if trace.isfinite().all() else "YES"}'
    )
    seconds |= dict(other=total - sum(seconds.values()), step=total)
    print(f'{"part":10}{"% of time":>12}{"GMAC/image":>12}')
    for part, spent in seconds.items():
        print(f'{part:10}{100 * spent / total:12.1f}{gmacs.get(part, 0):12.2f}')
