# Copyright (c) mmcim contributors. All rights reserved.
"""From a batch of uint8 images to the inputs of each method, on the device."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from mmengine.utils import to_2tuple
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .exemplars import crop_regions, region_maps


class ModelInputs(dict):
    """Tensors of a batch by name; of the shape of ``images``.

    mmpretrain's ``FeatureExtractor`` counts the images by ``inputs.shape``.
    """

    @property
    def shape(self) -> torch.Size:
        """Shape of the images, (B, 3, H, W)."""
        return self['images'].shape


@MODELS.register_module()
class DevicePreprocessor(ImgDataPreprocessor):
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
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        to_rgb: bool = False,
        flip_prob: float = 0.5,
    ) -> None:
        mean, std = ([float(value) for value in values] for values in (mean, std))
        super().__init__(mean, std, bgr_to_rgb=to_rgb)
        self.flip_prob = flip_prob

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
        if self._channel_conversion:
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


@MODELS.register_module()
class CIMDataPreprocessor(DevicePreprocessor):
    """Add the tokenizer input (CIM, section 3; BEiT, section 2.1).

    The tokenizer input is the same image, flipped likewise and resized on the device.

    Args:
        tokenizer_size: Size (h, w) of the tokenizer input. None leaves the images' size.
        tokenizer_interpolation: ``'bicubic'`` or ``'bilinear'``, both antialiased: the
            filter gets wider with the reduction, as Pillow's.
        **kwargs: See :class:`DevicePreprocessor`.
    """

    def __init__(
        self,
        tokenizer_size: int | Sequence[int] | None = None,
        tokenizer_interpolation: str = 'bicubic',
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.tokenizer_size = tuple(to_2tuple(tokenizer_size)) if tokenizer_size else None
        self.tokenizer_interpolation = tokenizer_interpolation

    def make_inputs(self, images: Tensor, training: bool) -> dict[str, Tensor]:
        """Flip and normalise, and resize for the tokenizer.

        Args:
            images: uint8, (B, C, H, W) with C = 1 or 3.
            training: Whether to flip.

        Returns:
            ``images``, float32, normalised, (B, 3, H, W), and ``tokenizer_images``,
            float32 in [0, 1], (B, 3, h, w).

        Raises:
            TypeError: If the images are something else.
        """
        images = self.flip(images, training)
        mode = self.tokenizer_interpolation
        resized = resize(images.float() / 255, self.tokenizer_size, mode)
        return dict(images=self.normalize_uint8(images), tokenizer_images=resized)


@MODELS.register_module()
class ConMIMDataPreprocessor(DevicePreprocessor):
    """Add the momentum encoder's images: the same crop and flip, colour-jittered.

    In evaluation nothing is flipped or augmented, and the two are equal.

    Args:
        online_augment: Of the images that are masked, for the online encoder; see
            :class:`StrongAugment`. None for none.
        momentum_augment: Of the full images, for the momentum encoder. Defaults to
            ConMIM's.
        **kwargs: See :class:`DevicePreprocessor`.
    """

    def __init__(
        self,
        online_augment: dict | None = None,
        momentum_augment: dict | None = dict(type='StrongAugment'),  # noqa: B006
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.online_augment = build_augment(online_augment)
        self.momentum_augment = build_augment(momentum_augment)

    def make_inputs(self, images: Tensor, training: bool) -> dict[str, Tensor]:
        """Flip, augment twice and normalise.

        Args:
            images: uint8, (B, C, H, W) with C = 1 or 3.
            training: Whether to flip and augment.

        Returns:
            ``images`` for the online encoder and ``momentum_images`` for the momentum
            encoder, both float32, normalised, (B, 3, H, W).

        Raises:
            TypeError: If the images are something else.
        """
        images = self.flip(images, training).float() / 255
        augments = dict(images=self.online_augment, momentum_images=self.momentum_augment)
        return {
            name: self.normalize(augment(images) if training else images)
            for name, augment in augments.items()
        }


@MODELS.register_module()
class CorrIMDataPreprocessor(DevicePreprocessor):
    """Add contexts, exemplars and label maps (arXiv 2303.12670, sec. 3.2).

    The context is the whole image at ``context_size``, with no augmentation but its flip.
    In training each exemplar is augmented on its own and flipped at random; its label map
    is not, for the same place is to be found.

    Args:
        exemplars: Their sampling, :class:`ExemplarSampling`. Defaults to its defaults.
        augment: Colour augmentation of the exemplars in training, on RGB images in
            [0, 1]; None for none. Defaults to :class:`StrongAugment` with a blur of half
            of them.
        exemplar_flip_prob: Probability of an exemplar's own horizontal flip in training.
        label_margin: See :func:`region_maps`. 0 labels each pixel by its centre. The
            released code resizes its label maps bicubically and compares them for
            equality, by which a region loses 0.4 to 0.5 px of the context at each edge;
            the default reproduces its maps best.
        context_size: Size (h, w) of the contexts.
        **kwargs: See :class:`DevicePreprocessor`.
    """

    def __init__(
        self,
        exemplars: dict = dict(type='ExemplarSampling'),  # noqa: B006
        augment: dict | None = dict(type='StrongAugment', blur_prob=0.5),  # noqa: B006
        exemplar_flip_prob: float = 0.5,
        label_margin: float = 0.4,
        context_size: int | Sequence[int] = 160,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.exemplars = MODELS.build(exemplars)
        self.augment = build_augment(augment)
        self.exemplar_flip_prob = exemplar_flip_prob
        self.label_margin = label_margin
        self.context_size = tuple(to_2tuple(context_size))

    def make_inputs(self, images: Tensor, training: bool) -> dict[str, Tensor]:
        """Flip, crop, augment and normalise.

        Args:
            images: uint8, (B, C, H, W) with C = 1 or 3.
            training: Whether to flip and augment.

        Returns:
            ``images`` (B, 3, H, W), ``context`` (B, 3, h, w) and ``exemplars``
            (B, E, 3, s, s), float32, normalised, and ``regions``, bool, (B, E, h, w),
            True where the exemplar lies.

        Raises:
            TypeError: If the images are something else.
        """
        images = self.flip(images, training).float() / 255
        context = resize(images, self.context_size)
        size = (images.shape[-2], images.shape[-1])
        regions = self.exemplars.draw(len(images), size, images.device)

        crops = crop_regions(images, regions, self.exemplars.size)  # (B, E, 3, s, s)
        crops = crops.flatten(0, 1)  # (B * E, 3, s, s)
        if training:
            crops = random_flip(self.augment(crops), self.exemplar_flip_prob)
        return dict(
            images=self.normalize(images),
            context=self.normalize(context),
            exemplars=self.normalize(crops).unflatten(0, regions.angle.shape),
            regions=region_maps(regions, size, self.context_size, self.label_margin),
        )


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
