# Copyright (c) mmcim contributors. All rights reserved.
"""OpenAI's discrete VAE (Ramesh et al., arXiv:2102.12092), encoder and decoder."""

import fnmatch
from itertools import pairwise
from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .base import BaseTokenizer, freeze

_URL = 'https://cdn.openai.com/dall-e'
_GROUPS = 4
# The logit-Laplace distribution leaves out 0.1 at either end of [0, 1].
_EPS = 0.1


class _Conv(nn.Module):
    """A convolution with "same" padding that computes in the dtype of its input.

    Its weights stay in that dtype; the originals wait on the CPU for another one.
    """

    originals: tuple[Tensor, Tensor] | None = None

    def __init__(self, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.w: Tensor = nn.Parameter(torch.empty(n_out, n_in, kernel, kernel))
        self.b: Tensor = nn.Parameter(torch.empty(n_out))

    def forward(self, x: Tensor) -> Tensor:
        if self.w.dtype != x.dtype:
            self.originals = self.originals or (self.w.cpu(), self.b.cpu())
            self.w, self.b = (original.to(x) for original in self.originals)
        return F.conv2d(x, self.w, self.b, padding=self.w.shape[-1] // 2)


class _Block(nn.Module):
    """Pre-activation bottleneck: ``id_path(x) + gain * res_path(x)``.

    Args:
        n_in: Channels of the input.
        n_out: Channels of the output, four times the bottleneck's.
        kernels: Sizes of the four convolutions.
        gain: Factor of the residual path.
    """

    def __init__(
        self, n_in: int, n_out: int, kernels: tuple[int, ...], gain: float
    ) -> None:
        super().__init__()
        self.gain = gain
        self.id_path = _Conv(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        widths = (n_in, *[n_out // 4] * 3, n_out)
        self.res_path = nn.ModuleDict()
        for i, kernel in enumerate(kernels):
            self.res_path[f'conv_{i + 1}'] = _Conv(widths[i], widths[i + 1], kernel)

    def forward(self, x: Tensor, dtype: torch.dtype, upsample: bool = False) -> Tensor:
        """Apply the block to ``x``, or to ``x`` enlarged twice.

        Nearest upsampling commutes with ReLU and with 1x1 convolutions. So the
        head of both paths runs before it, at a quarter of the cost.
        """
        conv_1, *convs = self.res_path.values()
        # The input may be wider than `dtype`; the original casts after the ReLU.
        residual = conv_1(x.relu().to(dtype))
        if not isinstance(self.id_path, nn.Identity):
            x = self.id_path(x.to(dtype))
        if upsample:
            residual = F.interpolate(residual, scale_factor=2.0, mode='nearest')
            x = F.interpolate(x, scale_factor=2.0, mode='nearest')
        for conv in convs:
            residual = conv(residual.relu_())
        return torch.add(x, residual, alpha=self.gain)


def _blocks(
    first: nn.Module,
    widths: tuple[int, ...],
    n_blocks: int,
    kernels: tuple[int, ...],
    last: nn.Module,
) -> nn.ModuleDict:
    """Layers of a network, with the original's names of the weights.

    Args:
        first: The input layer.
        widths: Channels before the first group of blocks, and after each.
        n_blocks: Blocks of a group.
        kernels: Sizes of the convolutions of a block.
        last: The output layer.
    """
    gain = 1 / (_GROUPS * n_blocks) ** 2
    layers = nn.ModuleDict({'input': first})
    for i, (n_in, n_out) in enumerate(pairwise(widths), start=1):
        group = layers[f'group_{i}'] = nn.ModuleDict()
        for j in range(n_blocks):
            group[f'block_{j + 1}'] = _Block(n_out if j else n_in, n_out, kernels, gain)
    layers['output'] = nn.ModuleDict({'conv': last})
    return layers


class _Encoder(nn.Module):
    """Pixels -> features -> logits."""

    def __init__(self, n_hid: int, n_blocks: int, vocab_size: int) -> None:
        super().__init__()
        widths = (n_hid, n_hid, 2 * n_hid, 4 * n_hid, 8 * n_hid)
        first, last = _Conv(3, n_hid, 7), _Conv(8 * n_hid, vocab_size, 1)
        self.blocks: Any = _blocks(first, widths, n_blocks, (3, 3, 3, 1), last)

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Features (B, 8 * n_hid, H / 8, W / 8) float32 of mapped pixels."""
        x = self.blocks['input'](x.to(dtype))
        for i in range(_GROUPS):
            if i > 0:
                x = F.max_pool2d(x, kernel_size=2)
            for block in self.blocks[f'group_{i + 1}'].values():
                x = block(x, dtype)
        return x.relu_().float()

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, vocab_size, h, w) float32 of features."""
        return self.blocks['output']['conv'](features)


class _Decoder(nn.Module):
    """Ids -> logits of the pixels."""

    def __init__(self, n_hid: int, n_blocks: int, vocab_size: int, n_init: int) -> None:
        super().__init__()
        widths = (n_init, 8 * n_hid, 4 * n_hid, 2 * n_hid, n_hid)
        first, last = _Conv(vocab_size, n_init, 1), _Conv(n_hid, 6, 1)
        self.blocks: Any = _blocks(first, widths, n_blocks, (1, 3, 3, 3), last)

    def simplify(self) -> None:
        """Leave out what is not needed; call once, after loading.

        A 1x1 convolution of a one-hot tensor is a row of a table, and of the six
        output channels the last three are the scales of the distribution.
        """
        conv = self.blocks['input']
        table = conv.w[:, :, 0, 0].t() + conv.b
        self.blocks['input'] = nn.Embedding.from_pretrained(table.contiguous())
        output = self.blocks['output']['conv']
        output.w = nn.Parameter(output.w[:3].clone())
        output.b = nn.Parameter(output.b[:3].clone())

    def forward(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Logits (B, 3, 8 * h, 8 * w) float32 of the pixels."""
        x = self.blocks['input'](ids).permute(0, 3, 1, 2)  # channels last
        for i in range(_GROUPS):
            for j, block in enumerate(self.blocks[f'group_{i + 1}'].values()):
                x = block(x, dtype, upsample=i > 0 and j == 0)
        return self.blocks['output']['conv'](x.relu_()).float()


@MODELS.register_module()
class DALLETokenizer(BaseTokenizer):
    """OpenAI's dVAE: 8192 codes, stride 8, the tokenizer of BEiT and CIM.

    Gives the ids and the images of the original implementation. The encoder's last layer
    and the decoder's first compute in float32, all others in ``precision``.

    Args:
        checkpoint: Path of the file that ``mmcim convert-dalle`` writes. The widths, the
            depth and the vocabulary are read from it.
        precision: 'float16', 'bfloat16' or 'float32'. Defaults to float16 on a GPU, as in
            the original, and float32 on a CPU.
        **kwargs: See :class:`BaseTokenizer`.

    Raises:
        ConfigError: If there is no such file, or it does not hold these two modules; says
            how to get it.
        ValueError: If there is no such precision.

    Example:
        >>> tokenizer = DALLETokenizer('weights/dalle_dvae.safetensors')
        >>> ids = tokenizer.encode(torch.rand(2, 3, 112, 112))
        >>> ids.shape
        torch.Size([2, 14, 14])
        >>> tokenizer.decode(ids).shape
        torch.Size([2, 3, 112, 112])
    """

    PRECISIONS = ('float16', 'bfloat16', 'float32')
    stride = 8
    expected = (
        "Expected OpenAI's weights (400 MB), converted by\n"
        f'  curl -fLO {_URL}/encoder.pkl -fLO {_URL}/decoder.pkl\n'
        '  mmcim convert-dalle encoder.pkl decoder.pkl '
        '--out weights/dalle_dvae.safetensors --trust-pickle'
    )

    def __init__(self, checkpoint: str, precision: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if precision not in (None, *self.PRECISIONS):
            raise ValueError(f'precision={precision!r} is none of {self.PRECISIONS}')
        self.precision = precision
        self.encoder, self.decoder = self._load(checkpoint).children()
        self.decoder.simplify()
        # Measured: on a CPU both are 1.2 times faster so.
        self.to(memory_format=torch.channels_last)
        self.vocab_size = self.decoder.blocks['input'].num_embeddings
        freeze(self)

    @classmethod
    def _network(cls, tensors: dict[str, Tensor]) -> nn.ModuleDict:
        n_enc, *_ = tensors['encoder.blocks.input.w'].shape
        vocab_size, *_ = tensors['encoder.blocks.output.conv.w'].shape
        n_init, *_ = tensors['decoder.blocks.input.w'].shape
        _, n_dec, *_ = tensors['decoder.blocks.output.conv.w'].shape
        # Each block of the first group begins with one of these.
        blocks = fnmatch.filter(tensors, 'encoder.blocks.group_1.*.res_path.conv_1.w')
        network = nn.ModuleDict()
        network['encoder'] = _Encoder(n_enc, len(blocks), vocab_size)
        network['decoder'] = _Decoder(n_dec, len(blocks), vocab_size, n_init)
        return network

    def _encode(self, images: Tensor) -> Tensor:
        pixels = (1 - 2 * _EPS) * images + _EPS
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        features = self.encoder(pixels, self._dtype(images))
        return self.encoder.logits(features).argmax(1)

    def _decode(self, ids: Tensor) -> Tensor:
        logits = self.decoder(ids, self._dtype(ids))
        return ((logits.sigmoid() - _EPS) / (1 - 2 * _EPS)).clamp(0, 1)

    def _dtype(self, x: Tensor) -> torch.dtype:
        return getattr(torch, self.precision or ('float16' if x.is_cuda else 'float32'))
