# Copyright (c) mmcim contributors. All rights reserved.
"""ConMIM's two views of the same crop and flip."""

import torch
from mmpretrain.registry import MODELS
from torch import nn

from .base import CIMDataPreprocessor, Views


@MODELS.register_module()
class ConMIMDataPreprocessor(CIMDataPreprocessor):
    """Two views of the same crop and flip: one to be masked, one with other colours.

    Both are of the pictures' size and normalised. In evaluation neither is flipped or
    augmented, and they are equal.

    Args:
        online_augment (dict, optional): Of the view that is masked, for the encoder
            that learns; see :class:`StrongAugment`. Defaults to None.
        momentum_augment (dict, optional): Of the full view, for the momentum encoder.
            Defaults to ConMIM's.
        **kwargs: See :class:`CIMDataPreprocessor`; ``view_size`` must be None.

    Raises:
        ValueError: If there is a ``view_size``.
    """

    def __init__(
        self,
        online_augment: dict | None = None,
        momentum_augment: dict | None = dict(type='StrongAugment'),  # noqa: B006
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if self.view_size is not None:
            raise ValueError(
                f"both views have the pictures' size; set view_size=None instead of "
                f'{self.view_size}'
            )
        self.online_augment = _build(online_augment)
        self.momentum_augment = _build(momentum_augment)

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make the views.

        Args:
            data (dict): ``inputs`` are uint8 pictures, (B, C, H, W) with C = 1 or 3;
                ``data_samples`` are optional.
            training (bool): Whether to flip and augment. Defaults to False.

        Returns:
            dict: ``inputs``, a dict of ``images`` for the encoder that learns and
            ``views`` for the momentum encoder, both (B, 3, H, W), float32, normalised;
            and ``data_samples`` as they came, on the device.

        Raises:
            TypeError: If the pictures are not such tensors.
        """
        data = self.cast_data(data)
        images = views = self.flipped(data['inputs'], training).float() / 255
        if training:
            images, views = self.online_augment(images), self.momentum_augment(views)
        return {
            'inputs': Views(images=self.normalize(images), views=self.normalize(views)),
            'data_samples': data.get('data_samples'),
        }


def _build(augment: dict | None) -> nn.Module:
    return nn.Identity() if augment is None else MODELS.build(augment)
