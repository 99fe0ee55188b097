# Copyright (c) mmcim contributors. All rights reserved.
"""From a batch of uint8 pictures to the views of the networks and the tokenizer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor


class Views(dict):
    """``images`` and ``views`` of a batch; of the shape of ``images``.

    mmpretrain's ``FeatureExtractor`` counts the pictures by ``inputs.shape``.
    """

    @property
    def shape(self) -> torch.Size:
        """Shape of the images, (B, 3, H, W)."""
        return self['images'].shape


@MODELS.register_module()
class CIMDataPreprocessor(BaseDataPreprocessor):
    """Make the two views of CIM from uint8 pictures, on the device.

    The ``images`` are normalised for the networks; the ``views`` are the same
    pictures in [0, 1] at the tokenizer's input size (CIM, section 3; the two views
    of BEiT, section 2.1). The loader sends either

    - one tensor (B, C, H, W): the whole batch is flipped at random here, and shrunk
      to ``view_size`` here, antialiased. There is one crop per picture to decode,
      to collate and to transfer;
    - a list of two tensors, from :class:`RandomResizedCropTwoPictures`: the second
      is the view. Nothing is flipped or resized then, the loader has done it.

    Pictures with one channel are repeated to three.

    Args:
        mean (Sequence[float]): Mean of the channels on the scale 0..255, in the
            channels' order after the conversion. Defaults to ImageNet's.
        std (Sequence[float]): Standard deviation of the channels, likewise.
            Defaults to ImageNet's.
        to_rgb (bool): Whether to swap the channels of the pictures, which the
            loaders give as BGR. Defaults to False.
        flip_prob (float): Probability of a picture's horizontal flip in training.
            Use 0 where left and right matter. Defaults to 0.5.
        view_size (int | Sequence[int], optional): Size (h, w) of the views.
            None leaves the pictures' size. Defaults to None.
        view_interpolation (str): 'bicubic' or 'bilinear', both antialiased: the
            filter gets wider with the reduction, as Pillow's. Defaults to 'bicubic'.
        non_blocking (bool): Whether to copy to the device without waiting; needs
            ``pin_memory=True`` in the loader. Defaults to False.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        to_rgb: bool = False,
        flip_prob: float = 0.5,
        view_size: int | Sequence[int] | None = None,
        view_interpolation: str = 'bicubic',
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        if not 0 <= flip_prob <= 1:
            raise ValueError(f'flip_prob must be in [0, 1], not {flip_prob}')
        if view_interpolation not in ('bicubic', 'bilinear'):
            raise ValueError(
                "view_interpolation must be 'bicubic' or 'bilinear', "
                f'not {view_interpolation!r}'
            )
        if len(mean) != 3 or len(std) != 3:
            raise ValueError(f'mean and std need three values: {mean}, {std}')
        self.to_rgb = to_rgb
        self.flip_prob = flip_prob
        if isinstance(view_size, int):
            view_size = (view_size, view_size)
        self.view_size = None if view_size is None else tuple(view_size)
        self.view_interpolation = view_interpolation
        self.register_buffer('mean', torch.tensor(mean).float().view(3, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).float().view(3, 1, 1), False)

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make the views.

        Args:
            data (dict): ``inputs`` are uint8 pictures (B, C, H, W) with C = 1 or 3, or
                a list of two such tensors; ``data_samples`` are optional.
            training (bool): Whether to flip at random. Defaults to False.

        Returns:
            dict: ``inputs``, a dict of ``images`` (B, 3, H, W), float32, normalised,
            and ``views`` (B, 3, h, w), float32 in [0, 1]; and ``data_samples`` as they
            came, on the device.

        Raises:
            TypeError: If the pictures are not such tensors.
            ValueError: If the second picture has not the size ``view_size``.
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        if isinstance(inputs, Tensor):
            pictures = self.flipped(inputs, training)
            views = self._shrink(pictures.float() / 255)
        elif isinstance(inputs, (list, tuple)) and len(inputs) == 2:
            pictures, views = map(self._to_rgb, inputs)
            views = views.float() / 255
            if self.view_size not in (None, views.shape[-2:]):
                raise ValueError(
                    f'The second picture has the size {tuple(views.shape[-2:])}, but '
                    f'view_size={self.view_size}: give the same size as second_scale '
                    'of the pipeline and as view_size of the data_preprocessor.'
                )
        else:
            raise TypeError(
                'The inputs must be one tensor or a list of two, not '
                f'{_describe(inputs)}: {_ADVICE}'
            )
        images = (pictures.float() - self.mean) / self.std
        return {
            'inputs': Views(images=images, views=views),
            'data_samples': data.get('data_samples'),
        }

    def flipped(self, pictures: Tensor, training: bool) -> Tensor:
        """Check the loader's pictures, order their channels, flip them at random.

        Args:
            pictures (Tensor): uint8, (B, C, H, W) with C = 1 or 3.
            training (bool): Whether to flip.

        Returns:
            Tensor: uint8, (B, 3, H, W), in the networks' order.

        Raises:
            TypeError: If they are something else, such as a list of two crops.
        """
        pictures = self._to_rgb(pictures)
        if training and self.flip_prob > 0:
            pictures = self._random_flip(pictures)
        return pictures

    def normalize(self, pictures: Tensor) -> Tensor:
        """Normalise RGB pictures in [0, 1], (B, 3, H, W), as ``images`` are."""
        return (pictures * 255 - self.mean) / self.std

    def denormalize(self, images: Tensor) -> Tensor:
        """Undo :meth:`normalize`, clamped to [0, 1]."""
        return ((images * self.std + self.mean) / 255).clamp(0, 1)

    def _to_rgb(self, pictures: Tensor) -> Tensor:
        """Check uint8 (B, C, H, W), return (B, 3, H, W) in the networks' order."""
        if (
            not isinstance(pictures, Tensor)
            or pictures.dtype != torch.uint8
            or pictures.ndim != 4
            or pictures.size(1) not in (1, 3)
        ):
            raise TypeError(
                'Pictures must be uint8 of shape (B, 3, H, W) or (B, 1, H, W), not '
                f'{_describe(pictures)}: {_ADVICE}'
            )
        pictures = pictures.expand(-1, 3, -1, -1)
        return pictures.flip(1) if self.to_rgb else pictures

    def _random_flip(self, pictures: Tensor) -> Tensor:
        """Flip every picture with probability ``flip_prob``, with no host sync."""
        flipped = torch.rand(len(pictures), device=pictures.device) < self.flip_prob
        return torch.where(flipped.view(-1, 1, 1, 1), pictures.flip(-1), pictures)

    def _shrink(self, views: Tensor) -> Tensor:
        """Resize to ``view_size``, antialiased."""
        if self.view_size in (None, views.shape[-2:]):
            return views
        views = F.interpolate(
            views, self.view_size, mode=self.view_interpolation, antialias=True
        )
        return views.clamp(0, 1)  # the bicubic filter overshoots at edges


_ADVICE = (
    "end the pipeline with dict(type='PackInputs') without normalising before it, and "
    "use collate_fn=dict(type='default_collate') in the data loader."
)


def _describe(value: object) -> str:
    """Name what came instead of pictures."""
    if isinstance(value, Tensor):
        return f'{value.dtype} of shape {tuple(value.shape)}'
    if isinstance(value, (list, tuple)):
        return f'a {type(value).__name__} of {len(value)}'
    return type(value).__name__
