# Copyright (c) mmcim contributors. All rights reserved.
"""Exemplars: rotated rectangles of an image, cropped upright, and where they lie.

Drawing, cropping and the segmentation maps run on the device for a whole batch. The maps
are computed from the rectangles' coordinates, not from a resampled image.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor


class Regions(NamedTuple):
    """E rectangles in each of B images.

    Attributes:
        center: (B, E, 2), x and y from the top left corner, in pixels of
            the image.
        sides: (B, E, 2), width and height in the same pixels.
        angle: (B, E), in radians: rotated counter-clockwise by it in the
            image as displayed, the rectangle is upright.
    """

    center: Tensor
    sides: Tensor
    angle: Tensor


@MODELS.register_module()
@dataclass
class ExemplarSampling:
    """How CorrIM's exemplars are drawn (arXiv 2303.12670, sec. 3.2).

    An upright box of random area and aspect ratio is placed anywhere in the image. The
    image is rotated, and the upright rectangle that encloses the rotated box is the
    region; ``fit`` is how it is made smaller where it leaves the image. Area and
    logarithm of the aspect ratio are uniform, and drawn together until the box fits into
    the image; after ten misfits it is the whole image.

    Args:
        num: Exemplars per image E.
        size: Side of the cropped exemplars in pixels.
        scale: The box's least and greatest fraction of the image's area, in (0, 1].
        aspect_ratio: The box's least and greatest width over height.
        degrees: The least and the greatest angle, both of which can occur; angles are
            whole degrees. The default is as released.
        fit: ``'released'`` moves edge after edge to where a row or column of the region
            meets the image's border, see :func:`_move_edges`. ``'centred'`` shrinks the
            region about its centre until its corners lie on the image, which leaves 18 %
            less of it, and is for any angle.

    Raises:
        ValueError: If a value is out of its range.
    """

    max_draws = 10

    num: int = 6
    size: int = 64
    scale: tuple[float, float] = (0.05, 0.48)
    aspect_ratio: tuple[float, float] = (1 / 3, 3.0)
    degrees: tuple[int, int] = (-45, 44)
    fit: str = 'released'

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f'scale={self.scale} must be 0 < least <= greatest <= 1')
        first, last = self.degrees
        upright = self.fit == 'released' and -45 <= first <= last <= 45
        if self.fit != 'centred' and not upright:
            raise ValueError(
                f"{self.fit=}: 'centred', or 'released' for -45 to 45 degrees"
            )

    def draw(
        self, batch_size: int, image_size: tuple[int, int], device: torch.device
    ) -> Regions:
        """Draw the regions of a batch.

        Args:
            batch_size: Number of images B.
            image_size: Their height and width in pixels.
            device: Where to draw.

        Returns:
            (B, E), float32.
        """
        height, width = image_size

        def rand(*shape: int) -> Tensor:
            return torch.rand(batch_size, self.num, *shape, device=device)

        least, greatest = self.scale
        low, high = map(math.log, self.aspect_ratio)
        area = (least + (greatest - least) * rand(self.max_draws)) * height * width
        ratio = (low + (high - low) * rand(self.max_draws)).exp()
        # Both sides; torch.tensor would make the host wait for their copy.
        image = torch.linspace(width, height, 2, dtype=torch.float32, device=device)
        boxes = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=-1)
        fits = (boxes <= image).all(dim=-1)  # (B, E, max_draws)
        chosen = fits.int().argmax(dim=-1)[..., None, None]
        box = boxes.take_along_dim(chosen, dim=2).squeeze(2)
        box = torch.where(fits.any(dim=-1, keepdim=True), box, image)
        center = box / 2 + (image - box).clamp(min=0) * rand(2)

        first, last = self.degrees
        shape = (batch_size, self.num)
        angle = torch.randint(first, last + 1, shape, device=device) * (math.pi / 180)
        region = _enclose(box, angle)
        if self.fit == 'released':
            return _move_edges(Regions(center, region, angle), image)
        room = torch.minimum(center, image - center)
        fitting = (room / (_enclose(region, angle) / 2)).amin(dim=-1, keepdim=True)
        return Regions(center, region * fitting.clamp(max=1), angle)


def _enclose(sides: Tensor, angle: Tensor) -> Tensor:
    """Sides of the upright rectangles around rotated ones, (..., 2) -> (..., 2)."""
    cos, sin = angle.cos().abs()[..., None], angle.sin().abs()[..., None]
    return cos * sides + sin * sides.flip(-1)


def _move_edges(regions: Regions, image: Tensor) -> Regions:
    """Fit regions into the image as the released code does.

    In the frame of the rotated image, a corner of the region that is outside moves an
    edge to where a row or column meets the image's border. For positive angles: the top
    edge to where the left column enters the image, the right edge to where the top row
    leaves it, the left edge to where the bottom row enters it, and then the bottom edge
    to where the right column leaves it. For other angles rows and columns swap roles.

    Args:
        regions: (B, E), each around a box inside the image.
        image: Width and height, (2,).

    Returns:
        (B, E), inside the image, of at least a pixel.
    """
    cos, sin = regions.angle.cos(), regions.angle.sin()
    # Unit vectors of the region's rows and columns in the image, (B, E, 2).
    across, down = torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)
    offset = regions.center - image / 2
    middle = torch.stack([(offset * across).sum(-1), (offset * down).sum(-1)], dim=-1)
    swapped = (regions.angle <= 0)[..., None]

    def swap(pairs: Tensor) -> Tensor:
        return torch.where(swapped, pairs.flip(-1), pairs)

    def outside(x: Tensor, y: Tensor) -> Tensor:
        place = x[..., None] * across + y[..., None] * down
        return (place.abs() > image / 2 + 1e-3).any(dim=-1)

    def ends(at: Tensor, normal: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
        """Where the line at this distance from the centre enters and leaves."""
        start = at[..., None] * normal
        one, other = ((side * image / 2 - start) / along for side in (-1, 1))
        return torch.minimum(one, other).amax(-1), torch.maximum(one, other).amin(-1)

    across, down = torch.where(swapped, down, across), torch.where(swapped, across, down)
    left, top = swap(middle - regions.sides / 2).unbind(-1)
    right, bottom = swap(middle + regions.sides / 2).unbind(-1)
    top_left, top_right = outside(left, top), outside(right, top)
    bottom_left = outside(left, bottom)
    top = torch.where(top_left, ends(left, across, down)[0], top)
    right = torch.where(top_right, ends(top, down, across)[1], right)
    left = torch.where(bottom_left, ends(bottom, down, across)[0], left)
    lowest = ends(right, across, down)[1]
    bottom = torch.where(outside(right, bottom), lowest, bottom)

    x, y = (left + right)[..., None] / 2, (top + bottom)[..., None] / 2
    sides = swap(torch.stack([right - left, bottom - top], dim=-1)).clamp(min=1)
    return Regions(image / 2 + x * across + y * down, sides, regions.angle)


def crop_regions(images: Tensor, regions: Regions, size: int) -> Tensor:
    """Crop regions, rotated upright and resized, antialiased.

    As released: the image is rotated to the nearest pixel; the region's whole pixels are
    cut out and resized by Pillow's bicubic filter, which is as wide as the reduction.

    Args:
        images: In [0, 1], float32, (B, 3, H, W).
        regions: (B, E).
        size: Side of the crops in pixels.

    Returns:
        In [0, 1], (B, E, 3, size, size).
    """
    height, width = images.shape[-2:]
    # As many rows and columns as a region can have.
    pixels = torch.arange(math.ceil(math.hypot(height, width)), device=images.device)
    crops = []
    # One exemplar of all images at a time: the rotated images are large.
    for center, sides, angle in zip(*(values.unbind(dim=1) for values in regions)):
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        x, y = center[:, :1] - width / 2, center[:, 1:] - height / 2
        # Edges in the rotated image, whose centre is at half its width and height.
        left = cos * x + sin * y + (width - sides[:, :1]) / 2  # (B, 1)
        top = cos * y - sin * x + (height - sides[:, 1:]) / 2
        across = left.round() + pixels + (1 - width) / 2  # (B, N)
        down = top.round() + pixels + (1 - height) / 2
        across, down = across[:, None], down[..., None]  # (B, 1, N), (B, N, 1)
        cos, sin = cos[..., None], sin[..., None]
        # grid_sample counts from -1 to 1 between the borders of the image. A column
        # and a row of the grid come first: only their sums are as large as the grid.
        grid_x = -2 * sin * down / width + 2 * cos * across / width
        grid_y = 2 * cos * down / height + 2 * sin * across / height
        rotated = F.grid_sample(
            images,
            torch.stack([grid_x, grid_y], dim=-1),
            mode='nearest',
            padding_mode='border',
            align_corners=False,
        )
        columns, rows = (_bicubic_weights(n, size, pixels) for n in sides.round().mT)
        # Autocast would round the images to bfloat16.
        with torch.autocast(images.device.type, enabled=False):
            crops.append(rows[:, None] @ rotated @ columns[:, None].mT)
    return torch.stack(crops, dim=1).clamp(0, 1)


def _bicubic_weights(length: Tensor, size: int, pixels: Tensor) -> Tensor:
    """Pillow's weights of N pixels, the first of which are resized to ``size`` samples.

    Args:
        length: How many of the pixels, (B,).
        size: Number of samples.
        pixels: 0 to N - 1.

    Returns:
        (B, size, N), which sum to 1.
    """
    step = length[:, None, None] / size
    samples = (torch.arange(size, device=pixels.device)[:, None] + 0.5) * step
    x = (pixels + 0.5 - samples).abs() / step.clamp(min=1)  # (B, size, N)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    weights = weights * (pixels < length[:, None, None])
    return weights / weights.sum(dim=-1, keepdim=True)


def region_maps(
    regions: Regions,
    image_size: tuple[int, int],
    map_size: tuple[int, int],
    margin: float = 0.0,
) -> Tensor:
    """Label each pixel of a map over the image by whether its centre is in a region.

    Args:
        regions: (B, E).
        image_size: Height and width in which they are given.
        map_size: Height h and width w of the map.
        margin: Pixels of the map that are nearer than this to a region's edge,
            in pixels of the map, count as outside. Defaults to 0.

    Returns:
        bool, (B, E, h, w); True is inside.
    """
    device = regions.angle.device
    per_pixel = [side / cells for side, cells in zip(image_size, map_size)]
    rows, columns = (
        (torch.arange(cells, device=device) + 0.5) * step
        for cells, step in zip(map_size, per_pixel)
    )
    cos, sin = (f(regions.angle)[..., None, None] for f in (torch.cos, torch.sin))
    x, y = (regions.center[..., i, None, None] for i in range(2))
    dx, dy = columns - x, rows[:, None] - y
    # In the image that is rotated until the region stands upright.
    half = regions.sides / 2 - margin * max(per_pixel)
    inside_width = (cos * dx + sin * dy).abs() <= half[..., 0, None, None]
    return inside_width & ((cos * dy - sin * dx).abs() <= half[..., 1, None, None])
