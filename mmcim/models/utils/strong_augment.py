# Copyright (c) mmcim contributors. All rights reserved.
"""Colour jitter, grey, blur and solarisation of a batch, on its device."""

import math
from typing import NamedTuple

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

# ITU-R 601, the weights of Pillow's conversion to grey.
_GREY = (0.299, 0.587, 0.114)
# Pillow's default: 128 of 255 and everything brighter is inverted.
_SOLARIZE_FROM = 128 / 255


class AugmentParams(NamedTuple):
    """What :class:`StrongAugment` does to each of B pictures.

    Attributes:
        factors (Tensor): (B, 4), float32: brightness, contrast and saturation to
            multiply, hue to add, as a share of the colour circle. (1, 1, 1, 0) does
            nothing.
        order (Tensor): (B, 4), int64: a permutation of 0 to 3 per picture, which of the
            four comes first, second, ...
        grey (Tensor): bool, (B,).
        sigma (Tensor): Standard deviation of the blur in pixels, (B,); 0 is no blur.
        solarize (Tensor): bool, (B,).
    """

    factors: Tensor
    order: Tensor
    grey: Tensor
    sigma: Tensor
    solarize: Tensor


@MODELS.register_module()
class StrongAugment(nn.Module):
    """The augmentations of contrastive learning, drawn for each picture by itself.

    In this order: with ``jitter_prob`` brightness, contrast, saturation and hue in
    random order, as torchvision's ``ColorJitter``; with ``grey_prob`` the grey picture;
    with ``blur_prob`` a Gaussian blur that repeats the border's pixels; with
    ``solarize_prob`` all values from 128 of 255 on are inverted. What Pillow computes
    on uint8, rounding after each step, is computed in float32 here; a picture that draws
    nothing is returned bit by bit. All draws come from PyTorch's generator of the
    device, and nothing waits for it.

    The defaults are those of ConMIM's view of the momentum encoder (arXiv 2205.09616).

    Args:
        brightness (float): Factors are uniform in 1 +- this, but not below 0. Defaults
            to 0.4.
        contrast (float): Likewise. Defaults to 0.4.
        saturation (float): Likewise. Defaults to 0.2.
        hue (float): The shift is uniform in +- this share of the colour circle, in
            [0, 0.5]. Defaults to 0.1.
        jitter_prob (float): Probability of the four together. Defaults to 0.8.
        grey_prob (float): Defaults to 0.2.
        blur_prob (float): Defaults to 0.1.
        blur_sigma (tuple[float, float]): The least and greatest standard deviation of
            the blur in pixels, uniform between them. Defaults to (0.1, 2.0).
        solarize_prob (float): Defaults to 0.2.

    Raises:
        ValueError: If a value is out of its range.
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
        strengths = dict(brightness=brightness, contrast=contrast, saturation=saturation)
        for name, value in strengths.items():
            if value < 0:
                raise ValueError(f'{name}={value} must not be negative')
        if not 0 <= hue <= 0.5:
            raise ValueError(f'hue={hue} must be in [0, 0.5]')
        probs = dict(
            jitter_prob=jitter_prob,
            grey_prob=grey_prob,
            blur_prob=blur_prob,
            solarize_prob=solarize_prob,
        )
        for name, value in probs.items():
            if not 0 <= value <= 1:
                raise ValueError(f'{name}={value} must be in [0, 1]')
        if not 0 < blur_sigma[0] <= blur_sigma[1]:
            raise ValueError(
                f'blur_sigma={tuple(blur_sigma)} must satisfy 0 < least <= greatest'
            )
        self.low = [max(0.0, 1 - value) for value in strengths.values()] + [-hue]
        self.high = [1 + value for value in strengths.values()] + [hue]
        self.jitter_prob = jitter_prob
        self.grey_prob = grey_prob
        self.blur_prob = blur_prob
        self.blur_sigma = tuple(blur_sigma)
        self.solarize_prob = solarize_prob

    def extra_repr(self) -> str:
        """What is drawn, for the printed model."""
        return (
            f'factors={self.low} to {self.high}, jitter_prob={self.jitter_prob}, '
            f'grey_prob={self.grey_prob}, blur_prob={self.blur_prob}, '
            f'blur_sigma={self.blur_sigma}, solarize_prob={self.solarize_prob}'
        )

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Augment.

        Args:
            images (Tensor): RGB pictures in [0, 1], float32, (B, 3, H, W).

        Returns:
            Tensor: Likewise.
        """
        return self.apply_params(images, self.draw(len(images), images.device))

    def draw(self, batch_size: int, device: torch.device) -> AugmentParams:
        """Draw what is done to each of ``batch_size`` pictures."""

        def happens(prob: float) -> Tensor:
            return torch.rand(batch_size, device=device) < prob

        def uniform(low: Tensor, high: Tensor) -> Tensor:
            draws = torch.rand(batch_size, len(low), device=device)
            return low + (high - low) * draws

        nothing = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device)
        low, high = (torch.tensor(x, device=device) for x in (self.low, self.high))
        factors = uniform(low, high)
        jittered = happens(self.jitter_prob)[:, None]
        order = torch.rand(batch_size, 4, device=device).argsort(dim=1)
        grey = happens(self.grey_prob)
        low, high = (torch.tensor([x], device=device) for x in self.blur_sigma)
        sigma = uniform(low, high).squeeze(1) * happens(self.blur_prob)
        return AugmentParams(
            factors=torch.where(jittered, factors, nothing),
            order=order,
            grey=grey,
            sigma=sigma,
            solarize=happens(self.solarize_prob),
        )

    def apply_params(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Do what has been drawn; the arguments are those of the other methods."""
        images = _jitter(images, params.factors, params.order)
        images = torch.where(_per_image(params.grey), _to_grey(images), images)
        radius = math.ceil(4 * self.blur_sigma[1])
        blurred = _blur(images, params.sigma, radius)
        images = torch.where(_per_image(params.sigma > 0), blurred, images)
        inverted = _per_image(params.solarize) & (images >= _SOLARIZE_FROM)
        return torch.where(inverted, 1 - images, images)


def _per_image(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def _to_grey(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = (weight * images[:, i : i + 1] for i, weight in enumerate(_GREY))
    return red + green + blue


def _jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Apply the four operations, each picture in its own order.

    In every place of the order all pictures go through both kinds of operation, with
    factors that do nothing where it is the other one's turn: cheaper than to ask the
    device for the pictures that are meant.
    """
    for place in range(4):
        which = order[:, place : place + 1]
        factor = _per_image(factors.gather(1, which).squeeze(1))
        which = _per_image(which)

        # Brightness mixes with black, contrast with the mean grey, saturation with grey.
        grey = _to_grey(images)
        other = torch.where(which == 1, grey.mean(dim=(2, 3), keepdim=True), grey)
        other = torch.where(which == 0, 0.0, other)
        mixed = (factor * images + (1 - factor) * other).clamp(0, 1)
        images = torch.where((which < 3) & (factor != 1), mixed, images)

        turned = _turn_hue(images, factor)
        images = torch.where((which == 3) & (factor != 0), turned, images)
    return images


def _turn_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Add to the hue of HSV.

    With k = (n + 6 hue) mod 6 and n = 5, 3, 1, a channel of the colour of maximum V and
    range C is V - C max(0, min(k, 4 - k, 1)).

    Args:
        images (Tensor): (B, 3, H, W).
        shift (Tensor): As a share of the colour circle, (B, 1, 1, 1).

    Returns:
        Tensor: (B, 3, H, W).
    """
    red, green, blue = images.unbind(dim=1)
    value, spread = images.amax(dim=1), images.amax(dim=1) - images.amin(dim=1)
    sector = torch.where(
        value == green, 2 * spread + blue - red, 4 * spread + red - green
    )
    sector = torch.where(value == red, green - blue, sector)
    # Where there is no colour, the numerator is 0 as well.
    hue = sector / spread.clamp(min=1e-12) + 6 * shift.view(-1, 1, 1)
    n = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    k = n + hue[:, None]
    k = k - 6 * torch.floor(k / 6)
    return value[:, None] - spread[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def _blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur by one matrix for the columns and one for the rows of each picture.

    Args:
        images (Tensor): (B, 3, H, W).
        sigma (Tensor): In pixels, (B,).
        radius (int): How far beyond the border weights are counted, in pixels.

    Returns:
        Tensor: (B, 3, H, W); where sigma is 0, the picture within rounding.
    """
    height, width = images.shape[-2:]
    # Autocast would round the pictures to bfloat16.
    with torch.autocast(images.device.type, enabled=False):
        rows = _blur_matrix(sigma, height, radius)[:, None]
        columns = _blur_matrix(sigma, width, radius)[:, None].transpose(-1, -2)
        return (rows @ images @ columns).clamp(0, 1)


def _blur_matrix(sigma: Tensor, size: int, radius: int) -> Tensor:
    """The Gaussian of each picture as a matrix over one side.

    A pixel beyond the border is the border's: their weights are summed up there.

    Returns:
        Tensor: (B, size, size); each row sums to 1.
    """
    target = torch.arange(size, device=sigma.device).view(-1, 1)
    source = torch.arange(-radius, size + radius, device=sigma.device)
    # Without blur, 1 at the pixel itself and exactly 0 elsewhere.
    scaled = (source - target) / sigma.clamp(min=1e-3).view(-1, 1, 1)
    weights = torch.exp(-0.5 * scaled.square())
    weights = weights / weights.sum(dim=-1, keepdim=True)
    first, inner, last = weights.split([radius + 1, size - 2, radius + 1], dim=-1)
    return torch.cat(
        [first.sum(dim=-1, keepdim=True), inner, last.sum(dim=-1, keepdim=True)], dim=-1
    )
