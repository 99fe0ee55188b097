# Copyright (c) mmcim contributors. All rights reserved.
"""The images of a method with a tokenizer, such as CIM and BEiT."""

from collections.abc import Sequence

from mmengine.utils import to_2tuple
from mmpretrain.registry import MODELS
from torch import Tensor

from .base import DevicePreprocessor, resize


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
