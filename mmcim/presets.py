# Copyright (c) mmcim contributors. All rights reserved.
"""Settings for the images of a folder: what is chosen, and why."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median
from typing import Any

from .datasets import read_image
from .utils.errors import ConfigError

OF_TOKENS = ('cim_respix', 'cim_revdet', 'beit')
"""Methods that need a tokenizer."""

FEW_IMAGES = 10_000
"""Below it, public weights are a better start than random ones."""

# Width, layers and heads of a ViT by (on a GPU, above 64 px).
_VITS = {
    (False, False): (128, 6, 4),
    (False, True): (192, 6, 3),
    (True, False): (192, 12, 3),
    (True, True): (384, 12, 6),
}
# Sides of images that the presets are for.
_SIZES = (64, 128, 224)
# The sliding windows of ResPix that are tried, and what the tokens have to explain of
# the pixels that are normalised by one.
WINDOWS = (8, 16, 32, 64)
ENOUGH = 0.5
_PENDING = 'until it is known'
# Value -> what is in the names of the configs that alone use it.
_USED_BY = dict(
    vit='vit_cim_', resnet='resnet_', resnet_width='resnet_', mask_ratio='_cim_'
)


@dataclass
class Preset:
    """The values of ``configs/_base_/images.py``, each with a reason.

    Attributes:
        values: Name -> value.
        reasons: Name -> why; chosen together, they share it.
    """

    values: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def choose(self, why: str, **values: Any) -> str:
        """Choose values, in place of earlier ones of these names, and describe them."""
        for name in values:
            self.reasons.pop(name, None)
        self.values |= values
        self.reasons |= dict.fromkeys(values, why)
        return self._text(values)

    def __str__(self) -> str:
        """The values as a file of Python, with the reasons as comments."""
        return self._text(self.reasons)

    def used_by(self, config: str) -> str:
        """Describe what a config of this name uses, but for what is not known yet."""
        known = (name for name, why in self.reasons.items() if why != _PENDING)
        return self._text(name for name in known if _USED_BY.get(name, '') in config)

    def _text(self, names: Iterable[str]) -> str:
        lines: list[str] = []
        for why, group in groupby(names, self.reasons.get):
            lines += [f'# {why}', *(f'{name} = {self.values[name]!r}' for name in group)]
        return '\n'.join(lines) + '\n'


def choose_size(files: Sequence[str], gpu: bool, network: dict[str, Any]) -> int:
    """Choose the side of the images to train with.

    Args:
        files: Some of the images.
        gpu: Whether there is one; a CPU trains with few patches.
        network: Of the weights to start from; empty without.
    """
    if network:
        patch = network.get('patch_size', 16)
        step = _step(patch)
        return max(1, (14 if gpu else 8) * patch // step) * step
    if not gpu:
        return _SIZES[0]
    middle = median(min(read_image(file).shape[:2]) for file in files)
    return max((size for size in _SIZES if size <= middle), default=_SIZES[0])


def _step(patch: int) -> int:
    """What sizes are multiples of: a ResNet's stride, and squares of two patches."""
    return math.lcm(32, 2 * patch)


def choose(num_images: int, img_size: int, gpu: bool, network: dict[str, Any]) -> Preset:
    """Choose all that follows from the number and size of the images and the device.

    Args:
        num_images: To pre-train with.
        img_size: Side of the images, in pixels.
        gpu: Whether there is one.
        network: Of the weights to start from, see
            :func:`mmcim.checkpoints.public.PublicWeights`; empty without.

    Returns:
        Without the images, the tokenizer, and the length of the training.

    Raises:
        ConfigError: If the size is no multiple of 32 px and of two patches.
    """
    preset, device = Preset(), 'a GPU' if gpu else 'a CPU'
    patch = network.get('patch_size', 8 if img_size <= (128 if gpu else 64) else 16)
    if img_size % _step(patch):
        raise ConfigError(
            f'--img-size {img_size}: expected a multiple of {_step(patch)} px'
        )
    grid = img_size // patch
    preset.choose(
        f'{grid} x {grid} patches', size=dict(img_size=img_size, patch_size=patch)
    )
    width, layers, heads = _VITS[gpu, img_size > 64]
    arch = dict(embed_dims=width, num_layers=layers, num_heads=heads)
    arch = network.get('arch', dict(arch, feedforward_channels=4 * width))
    depth = network.get('depth', 50 if gpu else 18)
    preset.choose(
        'of the weights' if network else f'sizes that {device} trains in hours',
        arch=arch,
        vit='VisionTransformer' if network else 'FixedPositionViT',
        resnet=dict(depth=depth),
        resnet_width=network.get('width', 2048 if depth > 34 else 512),
    )
    batch = min(128 if gpu else 64, num_images)
    preset.choose(f'{num_images} images, {device}', batch_size=batch)
    lr = 1.5e-3 * 128 / arch['embed_dims']
    if network:
        preset.choose('small, to keep what the weights know', lr=lr / 5)
    else:
        preset.choose('falls with the width of a ViT', lr=lr)
    preset.choose('CIM replaces half of the patches', mask_ratio=0.5)
    preset.choose(
        _PENDING,
        max_iters=1000,
        tokenizer=dict(type='DiscreteVAE', checkpoint=''),
        vocab_size=512,
        tokenizer_size=img_size // 2,
        window=max(WINDOWS),
    )
    return preset


def choose_window(explained: dict[int, float]) -> int:
    """Choose ResPix's sliding window: the smallest whose target the tokens can show.

    Args:
        explained: Window -> what the reconstruction explains, see
            :func:`mmcim.models.tokenizers.explained_by_tokens`.
    """
    return min((w for w, r2 in explained.items() if r2 >= ENOUGH), default=max(explained))
