# Copyright (c) mmcim contributors. All rights reserved.
"""From a batch of uint8 images to the model's inputs, on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class ModelInputs(dict):
    """Tensors of a batch by name; of the shape of ``images``.

    mmpretrain's ``FeatureExtractor`` counts the images by ``inputs.shape``.
    """

    @property
    def shape(self) -> torch.Size:
        """Shape of the images, (B, 3, H, W)."""
        return self['images'].shape


@MODELS.register_module()
class DevicePreprocessor(BaseDataPreprocessor):
    """Flip and normalise uint8 images on the device.

    The base of all data preprocessors, and sufficient for a method that needs only
    ``images``. The loader sends one uint8 crop per image, so that little is collated and
    transferred. A subclass overrides :meth:`make_inputs`.

    Args:
        mean: Mean of the channels on the scale 0..255, in the channels' order after the
            conversion. Defaults to ImageNet's.
        std: Standard deviation of the channels, likewise.
        to_rgb: Whether to swap the channels of the images, which the loaders give as
            BGR.
        flip_prob: Probability of an image's horizontal flip in training. Use 0 where
            left and right matter.
        non_blocking: Whether to copy to the device without waiting; needs
            ``pin_memory=True`` in the loader.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        to_rgb: bool = False,
        flip_prob: float = 0.5,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        self.to_rgb = to_rgb
        self.flip_prob = flip_prob
        self.register_buffer('mean', torch.tensor(mean).float().view(3, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).float().view(3, 1, 1), False)

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make the model's inputs of a batch.

        Args:
            data: ``inputs`` are the loader's images, see :meth:`make_inputs`;
                ``data_samples`` are optional.
            training: Whether to flip and augment.

        Returns:
            ``inputs``, what :meth:`make_inputs` returns, and ``data_samples`` as they
            came, on the device.
        """
        data = self.cast_data(data)
        return {
            'inputs': ModelInputs(self.make_inputs(data['inputs'], training)),
            'data_samples': data.get('data_samples'),
        }

    def make_inputs(self, images: Tensor, training: bool) -> dict[str, Tensor]:
        """Flip and normalise.

        Args:
            images: uint8, (B, C, H, W) with C = 1 or 3.
            training: Whether to flip.

        Returns:
            ``images``, float32, normalised, (B, 3, H, W).

        Raises:
            TypeError: If the images are something else.
        """
        return dict(images=self.normalize_uint8(self.flip(images, training)))

    def flip(self, images: Tensor, training: bool) -> Tensor:
        """Check the loader's images, order their channels, flip them at random.

        Args:
            images: uint8, (B, C, H, W) with C = 1 or 3.
            training: Whether to flip.

        Returns:
            uint8, (B, 3, H, W), in the model's order of channels.

        Raises:
            TypeError: If they are something else, such as a list of two crops.
        """
        kind = getattr(images, 'dtype', type(images).__name__)
        shape = tuple(getattr(images, 'shape', ()))
        if kind != torch.uint8 or len(shape) != 4 or shape[1] not in (1, 3):
            raise TypeError(
                f'Images must be uint8, (B, 1 or 3, H, W), not {kind} of shape {shape}: '
                "end the pipeline with dict(type='PackInputs') without normalising, and "
                "use collate_fn=dict(type='default_collate') in the data loader"
            )
        images = images.expand(-1, 3, -1, -1)
        if self.to_rgb:
            images = images.flip(1)
        if training and self.flip_prob > 0:
            images = random_flip(images, self.flip_prob)
        return images

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise RGB images in [0, 1], (B, 3, H, W)."""
        return (images * 255 - self.mean) / self.std

    def normalize_uint8(self, images: Tensor) -> Tensor:
        """Normalise RGB images in 0..255, (B, 3, H, W)."""
        return (images.float() - self.mean) / self.std

    def denormalize(self, images: Tensor) -> Tensor:
        """Undo :meth:`normalize`, clamped to [0, 1]."""
        return ((images * self.std + self.mean) / 255).clamp(0, 1)


def resize(images: Tensor, size: tuple[int, int] | None, mode: str = 'bicubic') -> Tensor:
    """Resize images in [0, 1], antialiased; a ``size`` of None leaves them."""
    if size in (None, images.shape[-2:]):
        return images
    images = F.interpolate(images, size, mode=mode, antialias=True)
    return images.clamp(0, 1)  # the bicubic filter overshoots at edges


def random_flip(images: Tensor, prob: float) -> Tensor:
    """Flip each image of (B, 3, H, W) horizontally with a probability."""
    # Drawn on the device, without synchronisation.
    flipped = torch.rand(len(images), device=images.device) < prob
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


def build_augment(augment: dict | None) -> nn.Module:
    """Build an augmentation of RGB images in [0, 1]; None leaves them."""
    return nn.Identity() if augment is None else MODELS.build(augment)
