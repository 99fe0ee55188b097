# Copyright (c) mmcim contributors. All rights reserved.
"""A VQ-VAE of stride 4 (van den Oord et al., arXiv:1711.00937), frozen."""

from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .base import BaseTokenizer, freeze

# Shorter names for the checkpoint's modules.
_RENAMED = (
    ('._blocks.', '.'),
    ('.residual.residual_blocks.residual_', '.residual.'),
    ('._block.', '.'),
    ('pre_vq_conv.', 'to_code.'),
    ('vq_vae.codebook.', 'codebook.'),
)


class _ResidualBlock(nn.Module):
    """``x = relu(x); x + conv1x1(relu(conv3x3(x)))``: the ReLU is on both paths."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(width, hidden, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return x + self.conv_2(self.conv_1(x).relu())


class _Encoder(nn.Module):
    def __init__(self, stem: int, width: int, hidden: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(3, stem, 4, stride=2, padding=1)
        self.conv_2 = nn.Conv2d(stem, width, 4, stride=2, padding=1)
        self.conv_3 = nn.Conv2d(width, width, 3, padding=1)
        self.residual = nn.Sequential(*(_ResidualBlock(width, hidden) for _ in '12'))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_2(self.conv_1(x).relu()).relu()
        return self.residual(self.conv_3(x)).relu()


class _Decoder(nn.Module):
    def __init__(self, code_dims: int, stem: int, width: int, hidden: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(code_dims, width, 3, padding=1)
        self.residual = nn.Sequential(*(_ResidualBlock(width, hidden) for _ in '12'))
        self.conv_t_1 = nn.ConvTranspose2d(width, stem, 4, stride=2, padding=1)
        self.conv_t_2 = nn.ConvTranspose2d(stem, 3, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residual(self.conv_1(x)).relu()
        return self.conv_t_2(self.conv_t_1(x).relu())


class _VQVAE(nn.Module):
    def __init__(
        self, vocab_size: int, code_dims: int, stem: int, width: int, hidden: int
    ) -> None:
        super().__init__()
        self.encoder = _Encoder(stem, width, hidden)
        self.to_code = nn.Conv2d(width, code_dims, 1)
        self.codebook = nn.Embedding(vocab_size, code_dims)
        self.decoder = _Decoder(code_dims, stem, width, hidden)


@MODELS.register_module()
class VQVAETokenizer(BaseTokenizer):
    """A pre-trained VQ-VAE: the nearest code of each 4 x 4 px, in float32.

    On GPUs its convolutions compute as PyTorch is set to, by default in TF32.

    Args:
        checkpoint: Path of the state dict. The widths of the layers and the
            vocabulary are read from it.
        **kwargs: See :class:`BaseTokenizer`.

    Raises:
        ConfigError: If the file is no such state dict.

    Example:
        >>> import torch
        >>> tokenizer = VQVAETokenizer('weights/vqvae_f4_512.pt')
        >>> ids = tokenizer.encode(torch.rand(2, 3, 64, 64))
        >>> ids.shape
        torch.Size([2, 16, 16])
        >>> tokenizer.decode(ids).shape
        torch.Size([2, 3, 64, 64])
    """

    stride = 4
    expected = (
        'VQVAETokenizer loads the state dict of a VQ-VAE with two stride-2 '
        'convolutions; for a network of your own see DiscreteVAE'
    )

    def __init__(self, checkpoint: str, **kwargs) -> None:
        super().__init__(**kwargs)
        self.network = self._load(checkpoint)
        self.vocab_size = self.network.codebook.num_embeddings
        freeze(self)

    @classmethod
    def _network(cls, tensors: dict[str, Tensor]) -> _VQVAE:
        for name in [*tensors]:
            short = name
            for old, new in _RENAMED:
                short = short.replace(old, new)
            tensors[short] = tensors.pop(name)
        vocab_size, code_dims = tensors['codebook.weight'].shape
        width, stem, *_ = tensors['encoder.conv_2.weight'].shape
        hidden, *_ = tensors['encoder.residual.0.conv_1.weight'].shape
        return _VQVAE(vocab_size, code_dims, stem, width, hidden)

    def _encode(self, images: Tensor) -> Tensor:
        codes = self.network.codebook.weight
        features = self.network.to_code(self.network.encoder(images - 0.5))
        # argmin |f - c|^2 = argmax f.c - |c|^2 / 2: one matrix product. A linear
        # layer and not a convolution, which a GPU would compute in TF32.
        offset = codes.square().sum(1) / -2
        return F.linear(features.permute(0, 2, 3, 1), codes, offset).argmax(-1)

    def _decode(self, ids: Tensor) -> Tensor:
        features = self.network.codebook(ids).permute(0, 3, 1, 2)
        return (self.network.decoder(features) + 0.5).clamp(0, 1)
