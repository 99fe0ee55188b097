# Copyright (c) mmcim contributors. All rights reserved.
"""A small convolutional discrete VAE: the trainable network and the tokenizer."""

import math

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .base import BaseTokenizer, freeze


class _ResidualBlock(nn.Module):
    """``x + conv1x1(relu(conv3x3(relu(x))))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_2 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_2(self.conv_1(x.relu()).relu_())


@MODELS.register_module()
class DiscreteVAENet(BaseModule):
    """The trainable network of a discrete VAE (Ramesh et al., section 2.1).

    The encoder halves the image ``log2(stride)`` times, and all else of it runs on
    the small grid; the decoder mirrors it.

    Args:
        stride: Side, in pixels, of the square that one id stands for: 4, 8 or 16.
        vocab_size: Number of codes.
        width: Channels on the grid; a larger map has half of the next one's.
        depth: Residual blocks in the encoder and in the decoder.
        code_dims: Channels of a code's embedding.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        stride: int = 8,
        vocab_size: int = 8192,
        width: int = 256,
        depth: int = 2,
        code_dims: int = 256,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if stride not in (4, 8, 16) or width % (stride // 2):
            raise ValueError(f'{stride=} must be 4, 8 or 16, {width=} a multiple of half')
        self.stride = stride
        self.vocab_size = vocab_size
        halvings = int(math.log2(stride))
        widths = [3, *(width >> i for i in reversed(range(halvings)))]

        encoder = []
        for n_in, n_out in zip(widths[:-1], widths[1:]):
            encoder += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
        encoder.pop()  # the residual blocks start with a ReLU
        encoder += [_ResidualBlock(width) for _ in range(depth)]
        self.encoder = nn.Sequential(*encoder, nn.ReLU(), nn.Conv2d(width, vocab_size, 1))
        self.codebook = nn.Embedding(vocab_size, code_dims)

        decoder: list[nn.Module] = [nn.Conv2d(code_dims, width, 3, padding=1)]
        decoder += [_ResidualBlock(width) for _ in range(depth)]
        for n_in, n_out in zip(widths[:0:-1], widths[-2::-1]):
            decoder.append(nn.ReLU())
            decoder.append(nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1))
        self.decoder = nn.Sequential(*decoder)
        self._reset()

    def _reset(self) -> None:
        """Preserve the variance through the layers; the first outputs are grey images."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                # Each output of a convolution of kernel k and stride s sums over
                # k * k inputs per channel; of a transposed one over (k / s)^2.
                shared = math.prod(module.stride) if module.transposed else 1
                taps = math.prod(module.kernel_size) / shared
                std = math.sqrt(2 / (module.in_channels * taps))
                nn.init.normal_(module.weight, std=std)
                nn.init.zeros_(module.get_parameter('bias'))
        for block in self.modules():
            if isinstance(block, _ResidualBlock):
                block.conv_2.weight.data.mul_(0.1)
        self.decoder[-1].get_parameter('weight').data.mul_(0.3)

    def forward(self, images: Tensor) -> Tensor:
        """Encode.

        Args:
            images: (B, 3, H, W) float in [0, 1], sides multiples of the stride.

        Returns:
            Logits (B, vocab_size, H / stride, W / stride).
        """
        # All layers then keep this layout, in which they are faster.
        images = images.contiguous(memory_format=torch.channels_last)
        return self.encoder(2 * images - 1)

    def embed(self, ids: Tensor) -> Tensor:
        """Codes of ids, (B, h, w) int64 -> (B, code_dims, h, w)."""
        return self.codebook(ids).permute(0, 3, 1, 2)

    def mix(self, weights: Tensor) -> Tensor:
        """Weighted sums of all codes, (B, vocab_size, h, w) -> (B, code_dims, h, w)."""
        return F.conv2d(weights, self.codebook.weight.t()[:, :, None, None])

    def decode(self, codes: Tensor) -> Tensor:
        """Images of codes.

        Args:
            codes: (B, code_dims, h, w), from :meth:`embed` or :meth:`mix`.

        Returns:
            (B, 3, h * stride, w * stride), about in [0, 1] but not clamped.
        """
        return self.decoder(codes) + 0.5


@MODELS.register_module()
class DiscreteVAE(BaseTokenizer):
    """A discrete VAE trained by :class:`DiscreteVAETrainer`, frozen, in float32.

    On GPUs its convolutions compute as PyTorch is set to, by default in TF32.

    Args:
        checkpoint: Path of the trainer's checkpoint, or of a ``.safetensors`` file with
            the network's tensors. The sizes of the network are read from it.
        **kwargs: See :class:`BaseTokenizer`.

    Raises:
        ConfigError: If the checkpoint holds another network.

    Example:
        >>> tokenizer = DiscreteVAE('work_dirs/dvae/epoch_50.pth')
        >>> tokenizer.encode(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 16, 16])
    """

    prefix = 'backbone.'
    expected = (
        'Expected a checkpoint of DiscreteVAETrainer, which the configs of '
        'configs/tokenizer train; docs/quickstart.md has the commands of a small one'
    )

    def __init__(self, checkpoint: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.network = self._load(checkpoint)
        self.stride = self.network.stride
        self.vocab_size = self.network.vocab_size
        freeze(self)

    @classmethod
    def _network(cls, tensors: dict[str, Tensor]) -> DiscreteVAENet:
        vocab_size, code_dims = tensors['codebook.weight'].shape
        first, *_ = tensors['encoder.0.weight'].shape
        kernels = [t.shape[2:] for k, t in tensors.items() if k.startswith('encoder.')]
        halvings = kernels.count(torch.Size((4, 4)))
        blocks = [k for k in tensors if k.endswith('.conv_1.weight')]
        return DiscreteVAENet(
            stride=2**halvings,
            vocab_size=vocab_size,
            width=first * 2**halvings // 2,
            depth=len(blocks) // 2,
            code_dims=code_dims,
        )

    def _encode(self, images: Tensor) -> Tensor:
        return self.network(images).argmax(1)

    def _decode(self, ids: Tensor) -> Tensor:
        return self.network.decode(self.network.embed(ids)).clamp(0, 1)
