# Copyright (c) mmcim contributors. All rights reserved.
"""ConMIM's two views of the same crop and flip."""

from mmpretrain.registry import MODELS
from torch import Tensor

from .base import DevicePreprocessor, build_augment


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
        images = momentum_images = self.flip(images, training).float() / 255
        if training:
            images = self.online_augment(images)
            momentum_images = self.momentum_augment(momentum_images)
        return dict(
            images=self.normalize(images),
            momentum_images=self.normalize(momentum_images),
        )
