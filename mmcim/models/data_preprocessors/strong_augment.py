# Copyright (c) mmcim contributors. All rights reserved.
"""Colour jitter, grey, blur and solarisation of a batch, on its device."""

import math
from typing import NamedTuple

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torchvision.transforms.v2 import ColorJitter

# ITU-R 601, the weights of Pillow's conversion to grey.
_GREY = (0.299, 0.587, 0.114)
# The columns of the factors.
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_NOTHING = (1.0, 1.0, 1.0, 0.0)
# Pillow's default: 128 of 255 and everything brighter is inverted.
_SOLARIZE_FROM = 128 / 255


class AugmentParams(NamedTuple):
    """What :class:`StrongAugment` does to each of B images.

    Attributes:
        factors: (B, 4), float32: brightness, contrast and saturation to
            multiply, hue to add, as a fraction of the colour circle. (1, 1, 1, 0) does
            nothing.
        order: A permutation of 0 to 3, which of the four
            comes first, second, ..., for all images.
        grey: bool, (B,).
        sigma: Standard deviation of the blur in pixels, (B,); 0 is no blur.
        solarize: bool, (B,).
    """

    factors: Tensor
    order: tuple[int, int, int, int]
    grey: Tensor
    sigma: Tensor
    solarize: Tensor


@MODELS.register_module()
class StrongAugment(nn.Module):
    """The augmentations of contrastive learning, drawn independently for each image.

    In this order: with ``jitter_prob`` brightness, contrast, saturation and hue in
    random order, as torchvision's ``ColorJitter``; with ``grey_prob`` the grey image;
    with ``blur_prob`` a Gaussian blur that repeats the border's pixels; with
    ``solarize_prob`` all values from 128 of 255 on are inverted. What Pillow computes
    on uint8, rounding after each step, is computed in float32 here; an image for
    which nothing is drawn is returned unchanged.

    Only the order of the four is drawn per batch, so that each runs once; for an image
    all orders are still equally likely. It is drawn from PyTorch's CPU generator and
    everything else from the device's, without synchronisation.

    The defaults are those of ConMIM's momentum images (arXiv 2205.09616).

    Args:
        brightness: Factors are uniform in 1 +- this, but not below 0, or between two
            given values, as of torchvision's ``ColorJitter``.
        contrast: Likewise.
        saturation: Likewise.
        hue: The shift is uniform in +- this fraction of the colour circle, at most 0.5,
            or between two given values.
        jitter_prob: Probability of the four together.
        grey_prob: Probability of the grey image.
        blur_prob: Probability of the blur.
        blur_sigma: The blur's standard deviation in pixels is uniform between these two.
        solarize_prob: Probability of the solarisation.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        jitter_prob: float = 0.8,
        grey_prob: float = 0.2,
        blur_prob: float = 0.1,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        solarize_prob: float = 0.2,
    ) -> None:
        super().__init__()
        jitter = ColorJitter(brightness, contrast, saturation, hue)
        ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        # None is for what does nothing.
        self.ranges = [
            bounds or (same, same) for bounds, same in zip(ranges, _NOTHING, strict=True)
        ]
        self.jitter_prob = jitter_prob
        self.grey_prob = grey_prob
        self.blur_prob = blur_prob
        self.blur_sigma = tuple(blur_sigma)
        self.solarize_prob = solarize_prob

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Augment.

        Args:
            images: RGB images in [0, 1], float32, (B, 3, H, W).

        Returns:
            Likewise.
        """
        return self.apply_params(images, self.draw(len(images), images.device))

    def draw(self, batch_size: int, device: torch.device) -> AugmentParams:
        """Draw what is done to each of ``batch_size`` images."""

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(batch_size, device=device)

        def happens(prob: float) -> Tensor:
            return torch.rand(batch_size, device=device) < prob

        jittered = happens(self.jitter_prob)
        # Column by column with plain numbers: the host waits until a copy of
        # torch.tensor is on the device.
        columns = [
            torch.where(jittered, uniform(*bounds), otherwise)
            for bounds, otherwise in zip(self.ranges, _NOTHING)
        ]
        return AugmentParams(
            factors=torch.stack(columns, dim=1),
            order=tuple(torch.randperm(4).tolist()),
            grey=happens(self.grey_prob),
            sigma=uniform(*self.blur_sigma) * happens(self.blur_prob),
            solarize=happens(self.solarize_prob),
        )

    def apply_params(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Do what has been drawn; the arguments are those of the other methods."""
        images = _jitter(images, params.factors, params.order)
        images = torch.where(_per_image(params.grey), _to_grey(images), images)
        radius = math.ceil(4 * max(self.blur_sigma))
        blurred = _blur(images, params.sigma, radius)
        images = torch.where(_per_image(params.sigma > 0), blurred, images)
        inverted = _per_image(params.solarize) & (images >= _SOLARIZE_FROM)
        return torch.where(inverted, 1 - images, images)


def _per_image(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def _to_grey(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = images.split(1, dim=1)
    grey = _GREY[0] * red
    return grey.add(green, alpha=_GREY[1]).add(blue, alpha=_GREY[2])


def _jitter(images: Tensor, factors: Tensor, order: tuple[int, ...]) -> Tensor:
    """Apply the four operations in the given order, with the factors of each image.

    Brightness mixes with black, contrast with the mean grey, saturation with the grey
    image.
    """
    for which in order:
        factor = _per_image(factors[:, which])
        if which == _HUE:
            images = torch.where(factor != 0, _shift_hue(images, factor), images)
            continue
        if which == _BRIGHTNESS:
            other = torch.zeros_like(factor)
        elif which == _CONTRAST:
            other = _to_grey(images.mean(dim=(2, 3), keepdim=True))
        else:
            other = _to_grey(images)
        # A factor of 1 leaves every bit.
        images = torch.lerp(other, images, factor).clamp(0, 1)
    return images


def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Add to the hue of HSV.

    With k = (n + 6 hue) mod 6 and n = 5, 3, 1, a channel of the colour of maximum V and
    range C is V - C max(0, min(k, 4 - k, 1)).

    Args:
        images: (B, 3, H, W).
        shift: As a fraction of the colour circle, (B, 1, 1, 1).

    Returns:
        (B, 3, H, W).
    """
    red, green, blue = images.unbind(dim=1)
    value = images.amax(dim=1)
    spread = value - images.amin(dim=1)
    sector = torch.where(
        value == green,
        (blue - red).add(spread, alpha=2),
        (red - green).add(spread, alpha=4),
    )
    sector = torch.where(value == red, green - blue, sector)
    # Where there is no colour, the numerator is 0 as well.
    hue = sector / spread.clamp(min=1e-12) + 6 * shift.view(-1, 1, 1)
    n = torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)
    k = (n + hue[:, None]) % 6
    fraction = torch.minimum(k, 4 - k).clamp(0, 1)
    return torch.addcmul(value[:, None], spread[:, None], fraction, value=-1)


def _blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur by one matrix for the columns and one for the rows of each image.

    Args:
        images: (B, 3, H, W).
        sigma: In pixels, (B,).
        radius: How far beyond the border weights are counted, in pixels.

    Returns:
        (B, 3, H, W); where sigma is 0, the image within rounding.
    """
    height, width = images.shape[-2:]
    # Autocast would round the images to bfloat16.
    with torch.autocast(images.device.type, enabled=False):
        rows = _blur_matrix(sigma, height, radius)[:, None]
        columns = _blur_matrix(sigma, width, radius).transpose(-1, -2)
        # One product per image; its channels lie one below the other.
        blurred = (images.flatten(1, 2) @ columns).view_as(images)
        return (rows @ blurred).clamp(0, 1)


def _blur_matrix(sigma: Tensor, size: int, radius: int) -> Tensor:
    """The Gaussian of each image as a matrix over one side.

    A pixel beyond the border is the border's: their weights are summed up there.

    Returns:
        (B, size, size); each row sums to 1.
    """
    target = torch.arange(size, device=sigma.device).view(-1, 1)
    source = torch.arange(-radius, size + radius, device=sigma.device)
    # Without blur, 1 at the pixel itself and exactly 0 elsewhere.
    steepness = 0.5 / sigma.clamp(min=1e-3).square().view(-1, 1, 1)
    weights = torch.softmax(-steepness * (source - target).square(), dim=-1)
    first, inner, last = weights.split([radius + 1, size - 2, radius + 1], dim=-1)
    return torch.cat(
        [first.sum(dim=-1, keepdim=True), inner, last.sum(dim=-1, keepdim=True)], dim=-1
    )
