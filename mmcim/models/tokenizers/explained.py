# Copyright (c) mmcim contributors. All rights reserved.
"""What a tokenizer can show of the targets that a pre-training asks for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data_preprocessors.preprocessors import resize
from ..layers.pixel_norm import PixelNorm
from .base import BaseTokenizer


@torch.no_grad()
def explained_by_tokens(
    tokenizer: BaseTokenizer,
    images: Tensor,
    tokenizer_size: int,
    norms: Sequence[PixelNorm],
) -> list[float]:
    """Measure how much of normalised pixels the reconstruction from tokens explains.

    It is the most that ResPix can know where nothing was replaced: a target that asks for
    finer detail than the tokens hold is noise to it.

    Args:
        tokenizer: Any.
        images: In [0, 1], (B, 3, H, W).
        tokenizer_size: Side of the tokenizer's input, in pixels.
        norms: Normalisations of a target.

    Returns:
        R2 of the reconstruction after the best scale, in [0, 1], for each of them.
    """
    ids = tokenizer.encode(resize(images, (tokenizer_size, tokenizer_size), 'bicubic'))
    h, w = images.shape[2:]
    restored = resize(tokenizer.decode(ids), (h, w), 'bicubic')
    explained = []
    for norm in norms:
        target, found = norm(images), norm(restored)
        product = (target * found).mean().square()
        r2 = product / (target.square().mean() * found.square().mean())
        explained.append(r2.item())
    return explained
