# Copyright (c) mmcim contributors. All rights reserved.
"""Fine-tuning's augmentation: mmpretrain's, in half of its time.

All of them take images (H, W, 3), uint8, with any strides. Crops come with their channels
apart in memory, see :func:`~mmcim.datasets.transforms.resize_image`.
"""

from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import RandomFlip
from mmcv.transforms.utils import cache_randomness
from mmpretrain.datasets import (
    AutoContrast,
    Contrast,
    Equalize,
    RandAugment,
    RandomErasing,
)
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
from mmpretrain.registry import TRANSFORMS
from PIL import Image, ImageOps


@TRANSFORMS.register_module()
class FastRandomFlip(RandomFlip):
    """mmcv's ``RandomFlip``, equal to it for equal random numbers."""

    @cache_randomness
    def _choose_direction(self) -> str | None:
        """Draw a direction, or None, faster than by ``numpy.random.choice``."""
        if isinstance(self.prob, list) or not isinstance(self.direction, str):
            return super()._choose_direction()
        return self.direction if np.random.rand() < self.prob else None


@TRANSFORMS.register_module()
class FastAutoContrast(AutoContrast):
    """mmpretrain's ``AutoContrast``, equal to it, by Pillow."""

    def transform(self, results: dict) -> dict:
        """Stretch each channel of ``img`` to 0 to 255."""
        if not self.random_disable():
            image = Image.fromarray(results['img'])
            results['img'] = np.array(ImageOps.autocontrast(image))
        return results


@TRANSFORMS.register_module()
class FastEqualize(Equalize):
    """mmpretrain's ``Equalize``, equal to it, by Pillow."""

    def transform(self, results: dict) -> dict:
        """Equalize the histogram of each channel of ``img``."""
        if not self.random_disable():
            image = Image.fromarray(results['img'])
            results['img'] = np.array(ImageOps.equalize(image))
        return results


@TRANSFORMS.register_module()
class FastContrast(Contrast):
    """mmpretrain's ``Contrast``, equal to it, by a table of the 256 values."""

    def transform(self, results: dict) -> dict:
        """Move the values of ``img`` away from its mean grey, or to it."""
        if self.random_disable():
            return results
        given = self.magnitude is not None
        magnitude = self.magnitude if given else self.random_magnitude()
        factor = 1 + self.random_negative(magnitude)
        grey = round(np.mean(cv2.cvtColor(results['img'], cv2.COLOR_BGR2GRAY)))
        values = np.arange(256, dtype=np.float32)
        table = cv2.addWeighted(values, factor, np.full_like(values, grey), 1 - factor, 0)
        table = np.clip(table, 0, 255).astype(np.uint8)
        results['img'] = cv2.LUT(results['img'], table)
        return results


@TRANSFORMS.register_module()
class FastRandAugment(RandAugment):
    """mmpretrain's ``RandAugment``, equal to it for equal random numbers.

    Args:
        policies: Operations, or the name of a list of them.
        **kwargs: Of mmpretrain's.
    """

    def __init__(self, policies: str | list[dict], **kwargs: Any) -> None:
        listed: list[dict] = (
            RANDAUG_POLICIES[policies] if isinstance(policies, str) else policies
        )
        slow = ('AutoContrast', 'Equalize', 'Contrast')  # three of timm's fifteen
        fast = [
            {**x, 'type': f'Fast{x["type"]}' if x['type'] in slow else x['type']}
            for x in listed
        ]
        super().__init__(fast, **kwargs)

    def transform(self, results: dict) -> dict:
        """Change ``img``, whose channels are apart afterwards, as ``PackInputs`` wants.

        OpenCV and Pillow want them interleaved, and NumPy takes as long for that as most
        operations do.
        """
        results['img'] = cv2.merge(list(results['img'].transpose(2, 0, 1)))
        for i in np.random.randint(len(self.transforms), size=(self.num_policies,)):
            results = self.transforms[i](results)
        planes = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        results['img'] = planes.transpose(1, 2, 0)
        return results


@TRANSFORMS.register_module()
class FastRandomErasing(RandomErasing):
    """mmpretrain's ``RandomErasing``, whose noise is drawn by PyTorch, in float32."""

    def _fill_pixels(
        self, img: np.ndarray, top: int, left: int, h: int, w: int
    ) -> np.ndarray:
        """Fill a rectangle of an image, of normal noise clipped to 0 to 255."""
        if self.mode == 'const' or self.fill_std is None:
            return super()._fill_pixels(img, top, left, h, w)
        mean, std = (
            torch.tensor(x)[:, None, None] for x in (self.fill_color, self.fill_std)
        )
        noise = torch.randn(3, h, w).mul_(std).add_(mean).clamp_(0, 255).byte()
        img[top : top + h, left : left + w] = noise.permute(1, 2, 0).numpy()
        return img
