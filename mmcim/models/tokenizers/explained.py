# Copyright (c) mmcim contributors. All rights reserved.
"""What a tokenizer can show of the targets that a pre-training asks for."""

import torch
from torch import Tensor

from ..data_preprocessors.preprocessors import resize
from ..layers.pixel_norm import PixelNorm
from .base import BaseTokenizer


@torch.no_grad()
def explained_by_tokens(
    tokenizer: BaseTokenizer, images: Tensor, tokenizer_size: int, norm: PixelNorm
) -> float:
    """Measure how much of normalised pixels the reconstruction from tokens explains.

    It is the most that ResPix can know where nothing was replaced: a target that asks for
    finer detail than the tokens hold is noise to it.

    Args:
        tokenizer: Any.
        images: In [0, 1], (B, 3, H, W).
        tokenizer_size: Side of the tokenizer's input, in pixels.
        norm: The target's normalisation.

    Returns:
        R2 of the reconstruction after the best scale, in [0, 1].
    """
    ids = tokenizer.encode(resize(images, (tokenizer_size, tokenizer_size), 'bicubic'))
    h, w = images.shape[2:]
    restored = resize(tokenizer.decode(ids), (h, w), 'bicubic')
    target, found = norm(images), norm(restored)
    product = (target * found).mean().square()
    return (product / (target.square().mean() * found.square().mean())).item()
