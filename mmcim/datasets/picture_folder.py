# Copyright (c) mmcim contributors. All rights reserved.
"""An own folder of pictures, of which a part is kept for validation."""

import hashlib
import os

from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS

EXTENSIONS = (
    '.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
)  # fmt: skip


@DATASETS.register_module()
class PictureFolder(CustomDataset):
    """``data_root/<class>/*``, split into training and validation by file name.

    Whether a picture is kept for validation depends on the hash of its path below
    ``data_root`` alone: adding or removing pictures moves no other one.

    Args:
        subset (str): 'train' or 'val'.
        val_share (float): Expected share of pictures for validation, in (0, 1).
            Defaults to 0.2.
        **kwargs: Other arguments of :class:`mmpretrain.datasets.CustomDataset`;
            ``with_label=False`` takes pictures in any folders or none. ``extensions``
            also holds TIFF and WebP by default.

    Raises:
        ValueError: If the subset is not known, or has no picture.
    """

    def __init__(self, subset: str, val_share: float = 0.2, **kwargs) -> None:
        if subset not in ('train', 'val'):
            raise ValueError(f"subset must be 'train' or 'val', not {subset!r}")
        self.subset = subset
        self.val_share = val_share
        kwargs.setdefault('extensions', EXTENSIONS)
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """List the pictures of the subset."""
        chosen = [
            item
            for item in super().load_data_list()
            if self._is_val(item['img_path']) == (self.subset == 'val')
        ]
        if not chosen:
            raise ValueError(
                f'{self.img_prefix} has no picture for subset={self.subset!r} with '
                f'val_share={self.val_share}; add pictures'
            )
        return chosen

    def _is_val(self, path: str) -> bool:
        name = os.path.relpath(path, self.img_prefix)
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], 'big') < self.val_share * 2**64
