# Copyright (c) mmcim contributors. All rights reserved.
"""What a trained network has learned, as arrays; ``mmcim see`` draws them."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor, nn

from mmcim.checkpoints import read_weights
from mmcim.models import tokenizers
from mmcim.models.backbones.beit_layers import FusedAttention
from mmcim.utils.errors import ConfigError

from .features import Images, extract_features, image_list, read_images

_PATCHES = 10  # shown of each code
_LEAST = 1e-6  # difference of two features


@torch.no_grad()
def attention_maps(
    backbone: nn.Module, images: Images, layer: int = -1, **settings: Any
) -> Tensor:
    """Compute how much of a layer's attention each patch gets.

    It is the attention of the class token, or, in a network without one, the mean of the
    attention of all patches.

    Args:
        backbone: A ViT or BEiT from :func:`load_backbone`.
        images: See :func:`extract_features`.
        layer: Number of the layer, from 0; negative ones count from the end.
        **settings: ``batch_size`` and ``img_size`` of :func:`extract_features`. The
            weights of all pairs of tokens of a batch are in memory.

    Returns:
        (N, num_heads, h, w), float32, at least 0. A map sums to at most 1: the class
        token attends to itself, too.

    Raises:
        ConfigError: If the backbone has no attention, or no such layer.

    Example:
        >>> from mmcim.apis import attention_maps, load_backbone
        >>> backbone = load_backbone('epoch_300_backbone.safetensors')
        >>> attention_maps(backbone, 'images').shape
        torch.Size([2, 12, 14, 14])
    """
    kept: list[Tensor] = []
    attention = _attention_layer(backbone, layer)
    hook = attention.register_forward_pre_hook(
        lambda module, args: kept.append(attention_weights(module, *args))
    )

    def read(maps: Tensor) -> Tensor:
        weights, grid = kept.pop(), maps.shape[2:]
        extra = weights.size(-1) - math.prod(grid)
        rows = weights[:, :, 0] if extra else weights.mean(dim=2)
        return rows[..., extra:].unflatten(-1, grid)

    try:
        settings |= dict(out_type='featmap', read=read)
        return extract_features(backbone, images, **settings)
    finally:
        hook.remove()


def _attention_layer(backbone: nn.Module, layer: int) -> nn.Module:
    """Find the attention module of a layer."""
    kinds, name = (FusedAttention, MultiheadAttention), type(backbone).__name__
    found = [module for module in backbone.modules() if isinstance(module, kinds)]
    if not found:
        raise ConfigError(f'{name} has no known attention: expected ViT or FusedBEiTViT')
    if not -len(found) <= layer < len(found):
        raise ConfigError(f'layer={layer}: expected 0 to {len(found) - 1} of this {name}')
    return found[layer]


def attention_weights(attention: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias), which fused kernels do not give.

    Args:
        attention: mmpretrain's ``MultiheadAttention``, or the BEiT-type encoder's
            :class:`FusedAttention`.
        x: Its input, (B, N, C).
        bias: What it adds to the scores, (num_heads, N, N).

    Returns:
        (B, num_heads, N, N); the weights of a query, in the last dimension, sum to 1.
    """
    qkv = attention.qkv(x).unflatten(-1, (3, attention.num_heads, -1))
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
    if isinstance(attention, FusedAttention):  # its bias is no part of the layer
        q = q + attention.q_bias.view(attention.num_heads, 1, -1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    return (scores if bias is None else scores + bias).softmax(dim=-1)


def pca_colours(backbone: nn.Module, images: Images, **settings: Any) -> Tensor:
    """Colour patches by the first three principal components of their features.

    Of a CNN, the positions of its last map are the patches.

    The components are those of the patches of all images together, so that one colour
    means the same in each of them.

    Args:
        backbone: From :func:`load_backbone`.
        images: See :func:`extract_features`.
        **settings: ``batch_size`` and ``img_size`` of :func:`extract_features`.

    Returns:
        (N, h, w, 3), float32 in [0, 1]: each component from its 1st percentile over all
        patches to the 99th, and clipped there.
    """
    from sklearn.decomposition import PCA  # takes seconds, as below

    maps = extract_features(backbone, images, out_type='featmap', **settings)
    features = maps.movedim(1, 3)  # (N, h, w, C)
    pca = PCA(3, svd_solver='covariance_eigh')
    components = pca.fit_transform(features.flatten(0, 2).double().numpy())
    low, high = np.percentile(components, [1, 99], axis=0)
    colours = (components - low) / np.maximum(high - low, 1e-12)
    return torch.from_numpy(colours).clamp(0, 1).float().unflatten(0, features.shape[:3])


def nearest_neighbours(
    features: Tensor, k: int = 5, queries: list[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Find the most similar images by the cosine of their features.

    Args:
        features: (N, D), from :func:`extract_features`.
        k: Neighbours of each query; it is none of its own.
        queries: Rows to find the neighbours of; all by default.

    Returns:
        ``values``, cosines of the neighbours with the query, the most similar first,
        (Q, k), float32, and ``indices``, their rows, (Q, k), int64.

    Raises:
        ConfigError: If there are not so many others.

    Example:
        >>> from mmcim.apis import nearest_neighbours
        >>> nearest_neighbours(torch.tensor([[1., 0], [0, 1], [2, 1]]), k=1)[1]
        tensor([[2],
                [2],
                [0]])
    """
    if not 1 <= k < len(features):
        raise ConfigError(f'k={k}: expected 1 to {len(features) - 1}, the other images')
    rows = torch.tensor(range(len(features)) if queries is None else queries)
    unit = F.normalize(features.float(), dim=1)
    cosines = (unit[rows] @ unit.T).scatter_(1, rows[:, None], -torch.inf)
    return cosines.topk(k, dim=1)


def tsne(features: Tensor, seed: int = 0) -> Tensor:
    """Arrange images in the plane so that similar ones are close to one another.

    Args:
        features: (N, D), from :func:`extract_features`; scaled to unit length, so that
            similar means a high cosine.
        seed: Of scikit-learn's ``TSNE``.

    Returns:
        (N, 2), float32. Distances between far groups, and their sizes, mean nothing.

    Raises:
        ConfigError: If there are fewer than four images, or all features are equal.
    """
    from sklearn.manifold import TSNE

    if len(features) < 4:
        raise ConfigError(f't-SNE of {len(features)} images: expected at least 4')
    features = F.normalize(features)
    if not (features - features[0]).abs().max() > _LEAST:  # also of NaN
        raise ConfigError('t-SNE: all features are equal, or some are not finite')
    perplexity = min(30, (len(features) - 1) / 3)
    method = TSNE(perplexity=perplexity, init='pca', random_state=seed)
    return torch.from_numpy(method.fit_transform(features.numpy()))


def load_tokenizer(path: str | Path) -> tokenizers.BaseTokenizer:
    """Load a tokenizer; which kind it is, the names of its weights tell.

    Args:
        path: Checkpoint of a tokenizer's training, or weights of any tokenizer.

    Raises:
        ConfigError: If the file is missing or damaged, or is of no known tokenizer.
    """
    read_weights(path)  # says what is wrong with the file itself
    kinds = tokenizers.DALLETokenizer, tokenizers.DiscreteVAE, tokenizers.VQVAETokenizer
    for kind in kinds:
        with suppress(ValueError):
            return kind(str(path))
    names = ', '.join(kind.__name__ for kind in kinds)
    raise ConfigError(f'{path} is no tokenizer: expected weights of {names}')


class CodeUse(NamedTuple):
    """How often a tokenizer uses its codes, and for what.

    Attributes:
        counts: Patches of each code, (vocab_size,), int64.
        codes: The most frequent ones, in falling order, (K,), int64.
        patches: Some that are encoded as each of ``codes``,
            (K, 10, 3, stride, stride), float32, RGB in [0, 1]; NaN where there are fewer.
        decoded: Each of ``codes`` as an image, (K, 3, stride, stride), float32, RGB in
            [0, 1].
    """

    counts: Tensor
    codes: Tensor
    patches: Tensor
    decoded: Tensor

    @property
    def entropy(self) -> float:
        """Of the distribution of codes, in bits, at most log2(vocab_size)."""
        fractions = self.counts / self.counts.sum()
        return torch.special.entr(fractions).sum().item() / math.log(2)


@torch.no_grad()
def images_per_code(
    tokenizer: Any, images: Images, num_codes: int = 10, img_size: int = 224
) -> CodeUse:
    """Encode images, and collect patches of the most frequent codes.

    Of each code ten patches are collected, evenly spaced among all that it has.

    Args:
        tokenizer: From :func:`load_tokenizer`.
        images: See :func:`extract_features`. All of them are in memory at a time, twice,
            with 1.2 MB per image of 224 px.
        num_codes: Codes to collect patches of; those in use at most.
        img_size: Height and width that images are resized to; rounded down to a multiple
            of the tokenizer's stride.

    Raises:
        ValueError: If an image cannot be read.
    """
    stride = tokenizer.stride
    device = next(tokenizer.buffers(), torch.empty(0)).device
    pixels = read_images(image_list(images), (img_size // stride * stride,) * 2) / 255
    ids = torch.cat([tokenizer.encode(x).cpu() for x in pixels.to(device).split(16)])
    ids, patches = ids.flatten(), _cut(pixels, stride).flatten(0, 2)
    counts = ids.bincount(minlength=tokenizer.vocab_size)
    codes = counts.argsort(descending=True, stable=True)[:num_codes]
    codes = codes[counts[codes] > 0]
    shown = torch.full((len(codes), _PATCHES, *patches.shape[1:]), torch.nan)
    for row, code in zip(shown, codes):
        places = (ids == code).nonzero()[:, 0]
        chosen = torch.linspace(0, len(places) - 1, min(_PATCHES, len(places)))
        row[: len(chosen)] = patches[places[chosen.long()]]
    # Neighbours have a part in a patch's pixels: each code stands among its own copies.
    decoded = tokenizer.decode(codes.view(-1, 1, 1).expand(-1, 5, 5).to(device))
    return CodeUse(counts, codes, shown, _cut(decoded, stride)[:, 2, 2].cpu())


def _cut(images: Tensor, side: int) -> Tensor:
    """Cut (B, 3, H, W) into patches, (B, H / side, W / side, 3, side, side)."""
    return images.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)
