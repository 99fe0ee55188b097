# Copyright (c) mmcim contributors. All rights reserved.
"""A custom image folder with an optional split for validation."""

import hashlib
import os

from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS

from .image_files import EXTENSIONS, list_images


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """``data_root/<class>/*``, all of it, or split into training and validation.

    The images are those of :func:`~mmcim.datasets.list_images`, which logs what is left
    out; mmpretrain's ``CustomDataset`` does not, and lists what a linked folder holds
    again and again. Which subset an image belongs to depends on the hash of its path
    below the folder alone: adding or removing images moves no other one.

    Args:
        subset: 'train', 'val', or None for all images.
        val_fraction: Expected fraction of images for validation, in (0, 1).
        **kwargs: Other arguments of :class:`mmpretrain.datasets.CustomDataset` but
            ``extensions``; ``with_label=False`` takes images in any folders or none.

    Raises:
        ValueError: If there is no such subset, or no image in it.
    """

    def __init__(
        self, subset: str | None = None, val_fraction: float = 0.2, **kwargs
    ) -> None:
        if subset not in ('train', 'val', None) or (subset and kwargs.get('ann_file')):
            raise ValueError(f"{subset=} is not 'train', 'val' or, with ann_file, None")
        self.subset = subset
        self.val_fraction = val_fraction
        super().__init__(extensions=EXTENSIONS, **kwargs)

    def _find_samples(self) -> list:
        """List paths below ``img_prefix``, each with the index of its class."""
        listing = list_images(self.img_prefix, by_class=self.with_label)
        files = listing.files
        if self.subset:
            wanted = self.subset == 'val'
            files = [f for f in files if is_val(f, self.val_fraction) == wanted]
        if not files:
            chosen = f'subset={self.subset!r} with val_fraction={self.val_fraction}'
            raise ValueError(f'{self.img_prefix} has no image for {chosen}; add images')
        if not self.with_label:
            return files
        self._metainfo.setdefault('classes', tuple(listing.classes))
        labels = {name: label for label, name in enumerate(listing.classes)}
        return [(file, labels[file.split(os.sep)[0]]) for file in files]


def is_val(file: str, val_fraction: float = 0.2) -> bool:
    """Whether an image, given by its path below the folder, is kept for validation."""
    digest = hashlib.sha256(os.fsencode(file)).digest()
    return int.from_bytes(digest[:8], 'big') < val_fraction * 2**64
