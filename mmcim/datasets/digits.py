# Copyright (c) mmcim contributors. All rights reserved.
"""Handwritten digits that an ordinary Python package ships."""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS

_SPLIT_SEED = 0
_VAL_FRACTION = 0.2


@DATASETS.register_module()
class Digits(BaseDataset):
    """scikit-learn's 1,797 handwritten digits, enlarged; needs no download.

    The images have 8x8 pixels with 17 grey levels, white on black. They are
    enlarged once, when the dataset is made, so that the pipeline needs no loading
    transform: ``img`` is uint8 of shape (size, size, 3) with three equal channels,
    ``gt_label`` the digit. Of every digit a fixed fifth is for validation: 1,438
    images are in 'train', 359 in 'val'.

    Args:
        split: 'train' or 'val'.
        size: Edge of the enlarged images in pixels.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.BaseDataset`.

    Raises:
        ValueError: If the split is not known.

    Example:
        >>> dataset = Digits(split='train')
        >>> dataset[0]['img'].shape
        (32, 32, 3)
    """

    METAINFO = {'classes': tuple('0123456789')}

    def __init__(self, split: str, size: int = 32, **kwargs) -> None:
        if split not in ('train', 'val'):
            raise ValueError(f"split must be 'train' or 'val', not {split!r}")
        self.split = split
        self.size = size
        # The data are small, and packing them takes longer than all else at the start.
        kwargs.setdefault('serialize_data', False)
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read, enlarge and split the digits."""
        images, labels = _read_digits()
        return [
            dict(img=self._enlarge(images[i]), gt_label=int(labels[i]))
            for i in self._split_indices(labels)
        ]

    def _split_indices(self, labels: np.ndarray) -> np.ndarray:
        """Choose the same fraction of every class, always the same images."""
        rng = np.random.default_rng(_SPLIT_SEED)
        parts = []
        for label in np.unique(labels):
            indices = rng.permutation(np.flatnonzero(labels == label))
            num_val = round(_VAL_FRACTION * len(indices))
            parts.append(indices[:num_val] if self.split == 'val' else indices[num_val:])
        return np.sort(np.concatenate(parts))

    def _enlarge(self, image: np.ndarray) -> np.ndarray:
        """Turn (8, 8) values in 0..16 into a uint8 image (size, size, 3)."""
        grey = cv2.resize(
            image / 16 * 255, (self.size, self.size), interpolation=cv2.INTER_CUBIC
        )
        grey = grey.round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Read the table in scikit-learn's package, whose import would take 3 s of CPU.

    Returns:
        Images in 0..16, float, (1797, 8, 8), and their digits, int, (1797,).
    """
    package = Path(find_spec('sklearn').origin).parent  # type: ignore[union-attr, arg-type]
    table = np.loadtxt(package / 'datasets/data/digits.csv.gz', delimiter=',')
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(int)
