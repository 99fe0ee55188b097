# Copyright (c) mmcim contributors. All rights reserved.
"""Scenes of handwritten digits with a class for every pixel."""

import numpy as np
from mmpretrain.registry import DATASETS
from PIL.ImageColor import getrgb

from .digits import Digits

# Grey levels above which a pixel belongs to the digit: ink that is clearly there.
_INK = 64


@DATASETS.register_module()
class DigitScenes(Digits):
    """Four of scikit-learn's digits per image, and what each pixel shows.

    Digits are put near the centres of the image's quarters, moved by up to an eighth
    of their size; where two overlap, the brighter one is seen. Which digits a scene has
    depends on the seed alone, and scenes of 'train' and 'val' have no digit in common.

    A sample has ``img``, uint8 (2 * size, 2 * size, 3), and ``gt_seg_map``, uint8
    (2 * size, 2 * size): 0 is background, 1 + d the ink of digit d; it is what
    mmsegmentation's pipelines expect after loading.

    Args:
        num_scenes: Number of scenes.
        seed: Seed of the scenes.
        **kwargs: Arguments of :class:`Digits`, with ``split`` and ``size``, the edge
            of one digit in pixels.
    """

    METAINFO: dict = {
        'classes': ('background', *'0123456789'),
        'palette': [(0, 0, 0), *(getrgb(f'hsl({36 * d}, 100%, 50%)') for d in range(10))],
    }

    def __init__(self, num_scenes: int, seed: int = 0, **kwargs) -> None:
        self.num_scenes = num_scenes
        self.seed = seed
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Compose all scenes."""
        digits = super().load_data_list()
        rng = np.random.default_rng(self.seed)
        return [self._compose(digits, rng) for _ in range(self.num_scenes)]

    def _compose(self, digits: list[dict], rng: np.random.Generator) -> dict:
        size, jitter = self.size, self.size // 8
        # A margin that is cut off again lets digits stick out.
        ink = np.zeros((2 * size + 2 * jitter,) * 2, np.uint8)
        labels = np.zeros_like(ink)
        for quarter, index in enumerate(rng.choice(len(digits), 4, replace=False)):
            corner = np.array(divmod(quarter, 2)) * size
            top, left = corner + rng.integers(0, 2 * jitter + 1, 2)
            window = np.s_[top : top + size, left : left + size]
            digit = digits[index]['img'][:, :, 0]
            seen = digit > np.maximum(ink[window], _INK)
            labels[window][seen] = 1 + digits[index]['gt_label']
            ink[window] = np.maximum(ink[window], digit)
        inner = np.s_[jitter : jitter + 2 * size, jitter : jitter + 2 * size]
        return dict(
            img=np.repeat(ink[inner][:, :, None], 3, axis=2),
            gt_seg_map=np.ascontiguousarray(labels[inner]),
            seg_fields=['gt_seg_map'],
            img_shape=(2 * size, 2 * size),
            ori_shape=(2 * size, 2 * size),
            reduce_zero_label=False,
        )
