# Copyright (c) mmcim contributors. All rights reserved.
"""Normalised pixel targets and their inverse."""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor


class PixelNorm(metaclass=ABCMeta):
    """Normalisation of each pixel by its own mean and standard deviation."""

    @abstractmethod
    def statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute each pixel's mean and standard deviation.

        Args:
            images: float, (B, C, H, W).

        Returns:
            ``mean`` and ``std = sqrt(var + eps)``, each of the shape of ``images``.
        """

    def __call__(self, images: Tensor) -> Tensor:
        """Normalise.

        Args:
            images: float, (B, C, H, W).

        Returns:
            Of the same shape.
        """
        mean, std = self.statistics(images)
        return (images - mean) / std

    def invert(self, normalised: Tensor, images: Tensor) -> Tensor:
        """Map normalised pixels back with the statistics of ``images``."""
        mean, std = self.statistics(images)
        return normalised * std + mean


@MODELS.register_module()
@dataclass
class SlidingWindowNorm(PixelNorm):
    """Each pixel normalised by the mean and variance of the window around it.

    The default target of ResPix (arXiv 2202.03382, sec. 3.2): per channel,
    ``(x - mean) / sqrt(var + eps)`` over a window of k x k pixels centred on the
    pixel. At borders the statistics are those of the part of the window that lies
    inside the image. ``var`` is the unbiased estimate over those n pixels. An even
    window has one pixel more on its far side (k = 8: 3 before, 4 after).

    Args:
        window: Side k of the window in pixels, at least 3, so that a
            corner still has two pixels per side.
        eps: Added to the variance.

    Example:
        >>> norm = SlidingWindowNorm(window=8)
        >>> images = torch.rand(2, 3, 32, 32)
        >>> targets = norm(images)
        >>> torch.allclose(norm.invert(targets, images), images, atol=1e-5)
        True
    """

    window: int = 8
    eps: float = 1e-6

    def statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute for each pixel the mean and standard deviation of its window."""
        k = self.window
        before, after = (k - 1) // 2, k // 2

        def window_sum(x: Tensor) -> Tensor:
            # Over rows, then over columns: 2 k instead of k * k terms.
            x = F.pad(x, (before, after, before, after))
            for dim in (2, 3):
                x = x.unfold(dim, k, 1).sum(-1)
            return x

        # E[x^2] - E[x]^2 cancels badly far from zero; an image's own mean removes most
        # of the offset and leaves the variance as it is.
        offset = images.mean(dim=(2, 3), keepdim=True)
        centred = images - offset
        count = window_sum(torch.ones_like(images[:1, :1]))
        mean = window_sum(centred) / count
        mean_sq = window_sum(centred.square()) / count
        var = (mean_sq - mean.square()).clamp(min=0) * count / (count - 1)
        return mean + offset, (var + self.eps).sqrt()


@MODELS.register_module()
@dataclass
class PatchNorm(PixelNorm):
    """MAE's target: each patch normalised by its own mean and variance.

    As in MAE's code, mean and unbiased variance are taken over all pixels *and
    channels* of a patch.

    Args:
        patch_size: Side of the patches in pixels.
        eps: Added to the variance.

    Example:
        >>> targets = PatchNorm(patch_size=16)(torch.rand(2, 3, 32, 32))
        >>> targets[:, :, :16, :16].mean().abs().item() < 1e-5
        True
    """

    patch_size: int = 16
    eps: float = 1e-6

    def statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute for each pixel the mean and standard deviation of its patch."""
        p = self.patch_size
        b, c, h, w = images.shape
        patches = images.view(b, c, h // p, p, w // p, p)
        var, mean = torch.var_mean(patches, dim=(1, 3, 5), keepdim=True)
        std = (var + self.eps).sqrt()
        mean, std = (x.expand_as(patches).reshape(images.shape) for x in (mean, std))
        return mean, std
