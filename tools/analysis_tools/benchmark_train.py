#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Measure speed, memory and operations of a training step, on one GPU or on the CPU.

Takes configs of pre-training and of classifiers. The images are synthetic and in memory:
the copy to the device is measured, the data loader is not. Everything else is a training
step as tools/train.py runs it, without hooks such as the momentum encoder's update.

``preprocess`` is the data preprocessor. The forward pass is divided into ``encode``,
``generator``, ``decode`` and ``enhancer`` for CIM, and ``loss`` for other methods.

Operations are counted by torch.utils.flop_counter in one more step, of two images, and
printed in billions of multiply-accumulates (GMAC) per image.

Example: ``python tools/analysis_tools/benchmark_train.py
configs/cim/vit-b_8xb256-300e.py --random-tokenizer``
"""

import argparse
import gc
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.logging import MMLogger
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

from mmcim.evaluation import binary_auc
from mmcim.models.selfsup import CIM
from mmcim.models.tokenizers import DiscreteVAENet
from mmcim.models.tokenizers.dalle import _Decoder, _Encoder
from mmcim.utils import (
    ConfigError,
    add_cfg_options,
    explain_build_errors,
    load_config,
    run_cli,
)

PARTS = ('preprocess', 'encode', 'generator', 'decode', 'enhancer', 'loss')
PARTS += ('backward', 'optimizer')
COUNTED_IMAGES = 2  # the fewest that batch norm takes


class Measurement(NamedTuple):
    """The metrics of one config.

    Attributes:
        name: Of the config.
        batch_size: Images per step.
        step: Seconds per step, on average.
        memory: Peak GPU memory in GiB, NaN on a CPU.
        fractions: Part -> fraction of the step's time, adding up to 1.
        gmacs: Part -> GMAC per image, and 'step' -> those of the whole step.
        losses: The loss of each step, warm-up included, (steps,).
    """

    name: str
    batch_size: int
    step: float
    memory: float
    fractions: dict[str, float]
    gmacs: dict[str, float]
    losses: Tensor


class Stopwatch:
    """Times calls by name; on a GPU by events, for which nothing waits.

    With a ``counter`` it reads floating-point operations instead of a clock.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == 'cuda'
        self.spans = defaultdict(list)
        self.counter: FlopCounterMode | None = None

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

    def total(self, part: str) -> float:
        """Seconds or operations of all calls of a part."""
        return sum(self._between(*span) for span in self.spans[part])

    def overall(self, part: str) -> float:
        """Seconds from the start of the first call to the end of the last."""
        return self._between(self.spans[part][0][0], self.spans[part][-1][1])

    def _now(self) -> Any:
        if self.counter is not None:
            return self.counter.get_total_flops()
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        if self.counter is not None or not self.on_gpu:
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000


def drop_pretrained(node: object) -> None:
    """Leave out where the weights of a model are from, in place."""
    if isinstance(node, list):
        for item in node:
            drop_pretrained(item)
    elif isinstance(node, dict):
        init = node.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            node['init_cfg'] = None
        for value in node.values():
            drop_pretrained(value)


def prepare(path: str, args: argparse.Namespace) -> Config:
    """Read a config and apply the command line to it."""
    cfg = load_config(path, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.get(cfg.get('model', {}).get('type', ''))
    supported = (BaseSelfSupervisor, ImageClassifier)
    if not (isinstance(model, type) and issubclass(model, supported)):
        raise ConfigError(f'{path} trains neither a pre-training nor a classifier')
    if args.sync_check and not issubclass(model, BaseSelfSupervisor):
        raise ConfigError(f'{path}: --sync-check is for pre-trainings')
    if cfg.model.get('masking', True) is None:
        raise ConfigError(f'{path} takes masks from the loader, which is not measured')
    drop_pretrained(cfg.model)  # weights change no metric, and the file may be missing
    if args.batch_size:
        cfg.train_dataloader.batch_size = args.batch_size
    return cfg


def random_tokenizer(model: dict, folder: str) -> str:
    """Write a tokenizer of full size with random weights.

    Args:
        model: Config of a model with a tokenizer. A ``DiscreteVAE`` gets its grid and
            vocabulary, and the default width and depth.
        folder: Where to write.

    Returns:
        The path for ``model.tokenizer.checkpoint``.

    Raises:
        ConfigError: If it is neither OpenAI's dVAE nor one of this project.
    """
    kind = model['tokenizer']['type']
    if kind == 'DALLETokenizer':
        # The sizes of OpenAI's modules.
        net = nn.ModuleDict(
            dict(
                encoder=_Encoder(n_hid=256, n_blocks=2, vocab_size=8192),
                decoder=_Decoder(n_hid=256, n_blocks=2, vocab_size=8192, n_init=128),
            )
        )
        for parameter in net.parameters():
            if parameter.ndim == 1:
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    elif kind == 'DiscreteVAE':
        generator = model.get('generator', model)
        backbone = generator['backbone']
        size = backbone.get('img_size', 224)
        side = (model['data_preprocessor'] or {}).get('tokenizer_size') or size
        net = DiscreteVAENet(
            stride=side * backbone.get('patch_size', 16) // size,
            vocab_size=generator['head']['vocab_size'],
        )
    else:
        raise ConfigError(
            'random weights are made for a DALLETokenizer or a DiscreteVAE; for a '
            f'{kind} give the weights by model.tokenizer.checkpoint'
        )
    path = Path(folder) / 'tokenizer.safetensors'
    save_file(net.state_dict(), path)
    return str(path)


def build(cfg: Config, random: bool) -> nn.Module:
    """Build and initialise a config's model.

    Args:
        cfg: The complete config.
        random: Whether its tokenizer, if it has one, gets random weights of full size
            instead of those of its file.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: If the model rejects its arguments or a file is missing.
    """
    model = {'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model}
    with tempfile.TemporaryDirectory() as folder:
        if random and model.get('tokenizer'):
            checkpoint = random_tokenizer(model, folder)
            model['tokenizer'] = {**model['tokenizer'], 'checkpoint': checkpoint}
        with explain_build_errors(cfg, 'model'):
            model = MODELS.build(model)
    logger = MMLogger.get_current_instance()
    logger.setLevel('WARNING')  # mmengine would log how it initialises each parameter
    model.init_weights()
    logger.setLevel('INFO')
    return model.train()


def synthetic_batch(cfg: Config, batch_size: int, pin: bool) -> dict:
    """Make what the loader would give to the data preprocessor, from noise.

    Args:
        cfg: The complete config.
        batch_size: Images, all of class 0.
        pin: Whether to pin the images' memory.

    Returns:
        ``inputs``, uint8, and ``data_samples``.
    """
    loader = cfg.train_dataloader
    dataset = loader.dataset
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
    batch = FUNCTIONS.get(loader.collate_fn.type)(samples)
    if pin:
        batch['inputs'] = tree_map(Tensor.pin_memory, batch['inputs'])
    return batch


def check_sync(model: nn.Module, batch: dict) -> None:
    """Raise an error if preprocessor, masks or CIM's AUC make the host wait for the GPU.

    MAE draws its masks within its encoder, where they are not checked.
    """
    batch = dict(inputs=tree_map(Tensor.cuda, batch['inputs']))
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


def watch_parts(watch: Stopwatch, model: nn.Module, optim_wrapper: OptimWrapper) -> None:
    """Measure the training step and each of its parts from now on."""
    watch.watch(model, 'train_step', 'step')
    watch.watch(model.data_preprocessor, 'forward', 'preprocess')
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


def count_gmacs(
    watch: Stopwatch, model: nn.Module, optim_wrapper: OptimWrapper, batch: dict
) -> dict[str, float]:
    """Count the operations of a training step of ``COUNTED_IMAGES`` images.

    Args:
        watch: What measures the parts; left with the counter.
        model: In training mode.
        optim_wrapper: Its optimizer.
        batch: What the loader gives.

    Returns:
        Part -> GMAC per image, and 'step' -> those of the whole step.
    """
    torch.manual_seed(0)  # the number of masked patches may be random
    watch.spans.clear()
    watch.counter = FlopCounterMode(display=False)
    # Fused attention on a CPU has no formula; this kind consists of counted products.
    with watch.counter, sdpa_kernel(SDPBackend.MATH):
        model.train_step(batch, optim_wrapper)
    flops = {part: watch.total(part) for part in (*PARTS, 'step')}
    return {part: count / 2e9 / COUNTED_IMAGES for part, count in flops.items()}


def measure(
    path: str, cfg: Config, args: argparse.Namespace, device: torch.device
) -> Measurement:
    """Train for some steps, time them and count the operations of one more."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = cfg.get('env_cfg', {}).get('cudnn_benchmark', False)
    model = build(cfg, args.random_tokenizer).to(device)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch_size = cfg.train_dataloader.batch_size
    batch = synthetic_batch(cfg, batch_size, pin=device.type == 'cuda')
    if args.sync_check:
        check_sync(model, batch)

    watch = Stopwatch(device)
    watch_parts(watch, model, optim_wrapper)
    losses = []
    for step in range(args.warmup + args.steps):
        if step == args.warmup:
            watch.spans.clear()
            if watch.on_gpu:
                torch.cuda.reset_peak_memory_stats()
        losses.append(model.train_step(batch, optim_wrapper)['loss'])

    total = watch.overall('step')
    fractions = {part: watch.total(part) / total for part in PARTS}
    fractions['other'] = 1 - sum(fractions.values())
    memory = torch.cuda.max_memory_allocated() / 2**30 if watch.on_gpu else float('nan')
    batch = synthetic_batch(cfg, COUNTED_IMAGES, pin=False)
    return Measurement(
        name=Path(path).stem,
        batch_size=batch_size,
        step=total / args.steps,
        memory=memory,
        fractions=fractions,
        gmacs=count_gmacs(watch, model, optim_wrapper, batch),
        losses=torch.stack(losses).detach().float().cpu(),
    )


def report(results: Sequence[Measurement], device: torch.device) -> None:
    """Print the device, the metrics of each config, and those of its parts."""
    on_gpu = device.type == 'cuda'
    name = torch.cuda.get_device_name() if on_gpu else platform.machine() + ' CPU'
    threads = '' if on_gpu else f', threads: {torch.get_num_threads()}'
    print(f'\n{name}{threads}, torch {torch.__version__}')
    head = ('config', 'batch', 'images/s', 'ms/step', 'peak GiB', 'GMAC/image')
    head += ('first loss', 'last loss', 'NaN or inf')
    rows = [
        (
            r.name,
            r.batch_size,
            f'{r.batch_size / r.step:.1f}',
            f'{1000 * r.step:.1f}',
            f'{r.memory:.2f}' if on_gpu else '-',
            f'{r.gmacs["step"]:.2f}',
            f'{r.losses[0]:.4f}',
            f'{r.losses[-1]:.4f}',
            'no' if r.losses.isfinite().all() else 'YES',
        )
        for r in results
    ]
    print_table([head, *rows])
    print('\nTime in % of the step')
    parts = (*PARTS, 'other')
    rows = [(r.name, *(f'{100 * r.fractions[p]:.1f}' for p in parts)) for r in results]
    print_table([('config', *parts), *rows])
    print('\nGMAC per image')
    parts = (*PARTS, 'step')
    rows = [(r.name, *(f'{r.gmacs[part]:.2f}' for part in parts)) for r in results]
    print_table([('config', *parts), *rows])


def print_table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows of cells, the first left- and the others right-aligned."""
    rows = [[str(cell) for cell in row] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, others, strict=True)]
        print('  '.join([name.ljust(first), *aligned]))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='what to train')
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
        help='on a GPU: stop if preprocessor, masks or AUC make the host wait for it',
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[Measurement]:
    """Measure.

    Args:
        argv: The arguments; those of the process by default.

    Returns:
        One measurement per config.

    Raises:
        ConfigError: For everything that the user can fix.
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
                f'{path}: {cfg.train_dataloader.batch_size} images do not fit '
                'into the memory of the GPU; use a smaller --batch-size'
            ) from error
        # The timed methods and their objects refer to each other.
        gc.collect()
        torch.cuda.empty_cache()
    report(results, device)
    return results


if __name__ == '__main__':
    run_cli(main)
