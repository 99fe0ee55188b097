# Copyright (c) mmcim contributors. All rights reserved.
"""The base of all methods: data preprocessor, features, and masks."""

from typing import Any

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from ...checkpoints.layout import backbone_prefix
from ..layers.momentum import MomentumEncoder


class SelfSupervisor(BaseSelfSupervisor):
    """A method whose loss takes the output of its data preprocessor.

    Args:
        *args: See :class:`mmpretrain.models.BaseSelfSupervisor`.
        data_preprocessor: Its type defaults to :attr:`preprocessor`.
        masking: The masking strategy, see :mod:`mmcim.models.layers.masking`. Defaults to
            :attr:`default_masking`.
        **kwargs: See :class:`mmpretrain.models.BaseSelfSupervisor`.
    """

    preprocessor = 'DevicePreprocessor'
    """Default type of the data preprocessor."""

    default_masking: dict | None = None
    """Config of the masking strategy of a method that masks patches."""

    masking: Any = None

    def __init__(
        self,
        *args,
        data_preprocessor: dict | None = None,
        masking: dict = dict(),  # noqa: B006
        **kwargs,
    ) -> None:
        preprocessor = {'type': self.preprocessor, **(data_preprocessor or {})}
        super().__init__(*args, data_preprocessor=preprocessor, **kwargs)
        if masking or self.default_masking:
            self.masking = MODELS.build(masking or self.default_masking)

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
    """A method with a ``momentum_encoder``, which starts as a copy.

    Args:
        *args: See :class:`SelfSupervisor`.
        momentum: Of the momentum encoder at the start of training.
        end_momentum: At its end; it rises along half a cosine.
        **kwargs: See :class:`SelfSupervisor`.
    """

    followed: tuple[str, ...] = ('backbone', 'neck')
    """Names of the modules that the momentum encoder follows."""

    def __init__(
        self, *args, momentum: float = 0.99, end_momentum: float = 1.0, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.momentum_encoder = MomentumEncoder(
            self, self.followed, momentum, end_momentum
        )

    def init_weights(self) -> None:
        """Initialise, and start with two equal encoders."""
        super().init_weights()
        self.momentum_encoder.copy_from(self)
