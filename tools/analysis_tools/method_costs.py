#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Count what a training step of each config costs per picture; nothing is timed.

One step runs on the CPU in float32 with pictures of noise, which go through the config's
own pipeline. Multiply-accumulates are those of matrix products, convolutions and
attention. Backbones begin with random weights, and so does a tokenizer whose file is
missing, in full size: weights change no figure.

Example: ``python tools/analysis_tools/method_costs.py
configs/cim/vit-b_8xb256-300e.py configs/baselines/vit-b_mae_8xb256-300e.py``
"""

import argparse
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, init_default_scope
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mmcim.models.tokenizers import BaseTokenizer
from mmcim.utils import ConfigError, ConfigOptions, load_config, run_cli
from mmcim.utils.config_keys import check_keys
from mmcim.utils.launch import drop_pretrained

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.analysis_tools.common import build, print_table  # noqa: E402


class Cost(NamedTuple):
    """What a training step costs.

    Attributes:
        learning (float): Multiply-accumulates per picture of the forward pass of what
            runs with a gradient.
        frozen (float): Likewise of what runs without one: tokenizers, momentum encoders.
        backward (float): Likewise of the backward pass.
        saved (float): Bytes per picture that autograd keeps for the backward pass.
        trainable (int): Parameters with a gradient.
        fixed (int): Parameters without one, and all tensors of tokenizers.
    """

    learning: float
    frozen: float
    backward: float
    saved: float
    trainable: int
    fixed: int


class CountMacs(TorchDispatchMode):
    """Count multiply-accumulates by the formulas of :mod:`torch.utils.flop_counter`.

    Its own ``FlopCounterMode`` does not tell what runs without a gradient.

    Attributes:
        total (int): Of all operations within.
        without_gradient (int): Of those within ``torch.no_grad()``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.without_gradient = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            macs = formula(*args, **kwargs, out_val=out) // 2
            self.total += macs
            self.without_gradient += 0 if torch.is_grad_enabled() else macs
        return out


class CountSaved(torch.autograd.graph.saved_tensors_hooks):
    """Count the bytes that autograd keeps for the backward pass.

    Each storage counts once and whole. Those of the model's own parameters and buffers,
    which are there anyway, do not count.
    """

    def __init__(self, model: nn.Module) -> None:
        own = (*model.parameters(), *model.buffers())
        self._own = {tensor.untyped_storage().data_ptr() for tensor in own}
        self._kept = []
        super().__init__(self._pack, lambda tensor: tensor)

    def bytes(self) -> int:
        """The sum; call it before the backward pass, which frees what it has used."""
        sizes = {}
        for reference in self._kept:
            # What a graph kept that is gone, such as that of an accuracy, is gone, too.
            if (tensor := reference()) is not None:
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
        return sum(size for start, size in sizes.items() if start not in self._own)

    def _pack(self, tensor: Tensor) -> Tensor:
        self._kept.append(weakref.ref(tensor))
        return tensor


class FusedAttention(TorchFunctionMode):
    """Let attention compute and keep what PyTorch's fused GPU kernels do.

    On a CPU attention with a learned bias keeps N x N weights per head, and the other
    kernel is not in the tables of :mod:`torch.utils.flop_counter`.

    Args:
        counter (CountMacs): What counts at the same time.
    """

    def __init__(self, counter: CountMacs) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Replace ``scaled_dot_product_attention``."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        before = self.counter.without_gradient
        out = attend(*args, **(kwargs or {}))
        if torch.is_grad_enabled():  # which it is not within an autograd.Function
            self.counter.without_gradient = before
        return out


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention with the arguments of ``scaled_dot_product_attention``.

    Args:
        query (Tensor): (..., N, C).
        key (Tensor): (..., M, C).
        value (Tensor): (..., M, D).
        attn_mask (Tensor, optional): Added to the (..., N, M) scores; floating point.
        dropout_p (float): Ignored: dropout multiplies no matrices. Defaults to 0.
        is_causal (bool): Ignored, for all scores are computed. Defaults to False.
        scale (float, optional): Defaults to C ** -0.5.

    Returns:
        Tensor: (..., N, D).
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return _Attention.apply(query, key, value, attn_mask, scale)


class _Attention(torch.autograd.Function):
    """Attention whose weights are computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        scale: float,
    ) -> Tensor:
        scores = _scores(query, key, bias, scale)
        total = scores.logsumexp(-1, keepdim=True)
        out = (scores - total).exp() @ value
        ctx.save_for_backward(query, key, value, bias, total, out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, total, out = ctx.saved_tensors
        weights = (_scores(query, key, bias, ctx.scale) - total).exp()
        change = grad @ value.transpose(-2, -1) - (grad * out).sum(-1, keepdim=True)
        change = weights * change
        return (
            change @ key * ctx.scale,
            change.transpose(-2, -1) @ query * ctx.scale,
            weights.transpose(-2, -1) @ grad,
            change.sum_to_size(bias.shape) if ctx.needs_input_grad[3] else None,
            None,
        )


def _scores(query: Tensor, key: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    scores = query @ key.transpose(-2, -1) * scale
    return scores if bias is None else scores + bias


def noise(cfg: Config, batch_size: int) -> dict:
    """A batch of noise as the config's training gives it to the data preprocessor.

    Args:
        cfg (Config): The complete config.
        batch_size (int): Pictures, all of class 0.

    Returns:
        dict: ``inputs``, uint8, and ``data_samples``.
    """
    loader = cfg.train_dataloader
    dataset = loader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    pipeline = Compose(dataset.pipeline)
    # The digits come as large as they are wanted, and loaders leave such an array alone.
    side = dataset.get('size', 256)
    random = np.random.default_rng(0)
    samples = []
    for _ in range(batch_size):
        picture = random.integers(256, size=(side, side, 3), dtype=np.uint8)
        shape = dict(img_shape=(side, side), ori_shape=(side, side))
        samples.append(pipeline(dict(img=picture, gt_label=0, **shape)))
    return FUNCTIONS.get(loader.collate_fn.type)(samples)


def count_step(model: nn.Module, batch: dict, batch_size: int) -> Cost:
    """Make a training step on the CPU and count.

    Args:
        model (nn.Module): In training mode.
        batch (dict): What the loader gives.
        batch_size (int): Pictures in it.

    Returns:
        Cost: The counts.
    """
    data = model.data_preprocessor(batch, training=True)
    forward, backward, saved = CountMacs(), CountMacs(), CountSaved(model)
    with forward, FusedAttention(forward), saved:
        losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    kept = saved.bytes()
    with backward:
        loss.backward()
    parameters = list(model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    fixed = sum(p.numel() for p in parameters if not p.requires_grad)
    for module in model.modules():
        if isinstance(module, BaseTokenizer):
            fixed += sum(buffer.numel() for buffer in module.buffers())
    return Cost(
        learning=(forward.total - forward.without_gradient) / batch_size,
        frozen=forward.without_gradient / batch_size,
        backward=backward.total / batch_size,
        saved=kept / batch_size,
        trainable=trainable,
        fixed=fixed,
    )


def prepare(path: str, options: dict | None) -> Config:
    """Read a config that trains on pictures with labels or none."""
    cfg = load_config(path, options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if cfg.get('default_scope') != 'mmpretrain' or 'train_dataloader' not in cfg:
        raise ConfigError(f'{path} trains neither a pre-training nor a classifier')
    drop_pretrained(cfg.model)  # first, for the file need not be there
    check_keys(cfg)
    return cfg


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'configs', nargs='+', metavar='CONFIG', help='pre-trainings, classifiers'
    )
    parser.add_argument(
        '--batch-size', type=int, default=2, help='pictures of the step (default: 2)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, Cost]:
    """Count and print.

    Args:
        argv (Sequence[str], optional): The arguments; those of the process by default.

    Returns:
        dict[str, Cost]: Config -> its costs.

    Raises:
        ConfigError: For everything that the user can mend.
    """
    args = parse_args(argv)
    if args.batch_size < 2:
        raise ConfigError('--batch-size must be at least 2, for the batch norms')
    configs = {path: prepare(path, args.cfg_options) for path in args.configs}
    costs = {}
    for path, cfg in configs.items():
        torch.manual_seed(0)
        tokenizer = cfg.model.get('tokenizer')
        random = bool(tokenizer) and not Path(tokenizer.checkpoint).is_file()
        model = build(cfg, random)
        costs[path] = count_step(model, noise(cfg, args.batch_size), args.batch_size)
        del model  # before the next one is built
    report(costs)
    return costs


def report(costs: dict[str, Cost]) -> None:
    """Print the table."""
    print('\nper picture: GMAC; MiB in float32 saved for the backward pass')
    print('parameters: millions')
    head = ('config', 'forward', 'frozen forward', 'backward', 'step', 'saved')
    rows = [(*head, 'trainable', 'frozen')]
    for path, cost in costs.items():
        path = Path(path)
        macs = (cost.learning, cost.frozen, cost.backward)
        rows.append(
            (
                f'{path.parent.name}/{path.stem}',
                *(f'{count / 1e9:.3f}' for count in (*macs, sum(macs))),
                f'{cost.saved / 2**20:.1f}',
                f'{cost.trainable / 1e6:.2f}',
                f'{cost.fixed / 1e6:.2f}',
            )
        )
    print_table(rows)


if __name__ == '__main__':
    run_cli(main)
