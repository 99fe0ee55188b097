# Copyright (c) mmcim contributors. All rights reserved.
"""The base of all methods: data preprocessor, features, and masks."""

from typing import Any

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor

from ...checkpoints.layout import backbone_prefix


class SelfSupervisor(BaseSelfSupervisor):
    """A method whose loss takes the output of its data preprocessor.

    Args:
        *args: See :class:`mmpretrain.models.BaseSelfSupervisor`.
        data_preprocessor: Its type defaults to :attr:`preprocessor`.
        **kwargs: See :class:`mmpretrain.models.BaseSelfSupervisor`.
    """

    preprocessor = 'DevicePreprocessor'
    """Default type of the data preprocessor."""

    masking: Any = None
    """``BaseMasking`` of a method that masks patches."""

    def __init__(self, *args, data_preprocessor: dict | None = None, **kwargs) -> None:
        preprocessor = {'type': self.preprocessor, **(data_preprocessor or {})}
        super().__init__(*args, data_preprocessor=preprocessor, **kwargs)

    def extract_feat(self, inputs: Tensor | dict) -> tuple[Tensor]:
        """Features of whole images from the exported backbone.

        Args:
            inputs: Normalised images, (B, 3, H, W), or what the data preprocessor
                returns.

        Returns:
            What the backbone outputs.
        """
        images = inputs['images'] if isinstance(inputs, dict) else inputs
        prefix = backbone_prefix(self)
        if prefix in (None, '', 'backbone.'):
            return super().extract_feat(images)
        return self.get_submodule(prefix.rstrip('.'))(images)

    def init_weights(self) -> None:
        """Check that the masking strategy fits the patch grid, then initialise.

        Raises:
            ValueError: If it does not fit.
        """
        if self.masking is not None:
            # On the meta device the grid is checked, but nothing is drawn.
            self.draw_mask(torch.empty(1, device='meta'))
        super().init_weights()

    def draw_mask(self, images: Tensor) -> Tensor:
        """Draw the masks of a batch, for the grid of the backbone's patches.

        Args:
            images: (B, 3, H, W).

        Returns:
            bool, (B, h, w); True is masked.
        """
        grid = tuple(self.backbone.patch_resolution)
        return self.masking(len(images), grid, images.device)


class MomentumSupervisor(SelfSupervisor):
    """A method with a ``momentum_encoder``, which starts as a copy."""

    def init_weights(self) -> None:
        """Initialise, and start with two equal encoders."""
        super().init_weights()
        self.momentum_encoder.copy_from(self)
