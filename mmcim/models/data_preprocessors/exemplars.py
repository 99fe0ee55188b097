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
    image is rotated about it, and the upright rectangle that encloses the rotated box is
    the region; it is shrunk about its centre until its corners lie on the image. The
    area is uniform, and the aspect ratio log-uniform among those with which a box of that
    area fits into the image, so that no draw is rejected.

    Args:
        num: Exemplars per image E.
        size: Side of the cropped exemplars in pixels.
        scale: The box's least and greatest fraction of the image's area, in (0, 1].
        aspect_ratio: The box's least and greatest width over height. 1 has to lie
            between them.
        degrees: The least and the greatest angle, both of which can occur; angles are
            whole degrees. The default is as released.

    Raises:
        ValueError: If a value is out of its range.
    """

    num: int = 6
    size: int = 64
    scale: tuple[float, float] = (0.05, 0.48)
    aspect_ratio: tuple[float, float] = (1 / 3, 3.0)
    degrees: tuple[int, int] = (-45, 44)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f'scale={self.scale} must be 0 < least <= greatest <= 1')
        if not 0 < self.aspect_ratio[0] <= 1 <= self.aspect_ratio[1]:
            raise ValueError(f'aspect_ratio={self.aspect_ratio} must enclose 1')
        first, last = self.degrees
        if not int(first) == first <= last == int(last):
            raise ValueError(f'degrees={self.degrees} must be whole, least <= greatest')

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
        area = (least + (greatest - least) * rand()) * height * width
        # A box fits if its width sqrt(area * ratio) and height sqrt(area / ratio) do.
        low = (area / height**2).clamp(min=self.aspect_ratio[0]).log()
        high = (width**2 / area).clamp(max=self.aspect_ratio[1]).log()
        ratio = (low + (high - low) * rand()).exp()
        box = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=-1)
        # Both sides; torch.tensor would make the host wait for their copy.
        image = torch.linspace(width, height, 2, dtype=torch.float32, device=device)
        center = box / 2 + (image - box).clamp(min=0) * rand(2)

        first, last = self.degrees
        shape = (batch_size, self.num)
        angle = torch.randint(first, last + 1, shape, device=device) * (math.pi / 180)
        region = _enclose(box, angle)
        room = torch.minimum(center, image - center)
        fitting = (room / (_enclose(region, angle) / 2)).amin(dim=-1, keepdim=True)
        return Regions(center, region * fitting.clamp(max=1), angle)


def _enclose(sides: Tensor, angle: Tensor) -> Tensor:
    """Sides of the upright rectangles around rotated ones, (..., 2) -> (..., 2)."""
    cos, sin = angle.cos().abs()[..., None], angle.sin().abs()[..., None]
    return cos * sides + sin * sides.flip(-1)


def crop_regions(images: Tensor, regions: Regions, size: int) -> Tensor:
    """Crop regions, rotated upright and resized, antialiased.

    A region is sampled (bicubic) on a grid that is finer than the crop by a whole factor,
    the one that brings a region of the image's size to at least a sample per pixel;
    then the fine crop is reduced by that factor with the bicubic filter as wide as the
    reduction, which is Pillow's.

    Args:
        images: In [0, 1], float32, (B, 3, H, W).
        regions: (B, E).
        size: Side of the crops in pixels.

    Returns:
        In [0, 1], (B, E, 3, size, size).
    """
    height, width = images.shape[-2:]
    num_samples = size * math.ceil(max(height, width) / size)
    steps = torch.arange(num_samples, device=images.device)
    steps = (steps + 0.5) / num_samples - 0.5
    crops = []
    # One exemplar of all images at a time: the fine grids are large.
    for center, sides, angle in zip(*(values.unbind(dim=1) for values in regions)):
        across, down = (steps * side[:, None] for side in sides.unbind(dim=1))
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]
        x, y = (middle[:, None] for middle in center.unbind(dim=1))
        # grid_sample counts from -1 to 1 between the borders of the image. A column
        # and a row of the grid come first: only their sums are as large as the grid.
        grid_x = _outer_sum(-2 * sin * down / width, 2 * (x + cos * across) / width - 1)
        grid_y = _outer_sum(2 * cos * down / height, 2 * (y + sin * across) / height - 1)
        crop = F.grid_sample(
            images,
            torch.stack([grid_x, grid_y], dim=-1),
            mode='bicubic',
            padding_mode='border',
            align_corners=False,
        )
        crops.append(F.interpolate(crop, (size, size), mode='bicubic', antialias=True))
    return torch.stack(crops, dim=1).clamp(0, 1)


def _outer_sum(down: Tensor, across: Tensor) -> Tensor:
    """(B, N), (B, N) -> (B, N, N)."""
    return down[:, :, None] + across[:, None]


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
