# Copyright (c) mmcim contributors. All rights reserved.
"""What all methods share: a data preprocessor on the device, and features."""

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from ..layers.masking import BaseMasking


class SelfSupervisor(BaseSelfSupervisor):
    """A method whose loss takes what its data preprocessor makes of a batch.

    Args:
        *args: See :class:`mmpretrain.models.BaseSelfSupervisor`.
        data_preprocessor: Its type defaults to :attr:`preprocessor`.
        **kwargs: See :class:`mmpretrain.models.BaseSelfSupervisor`.
    """

    preprocessor = 'DevicePreprocessor'
    """Type of the data preprocessor unless it says another."""

    def __init__(self, *args, data_preprocessor: dict | None = None, **kwargs) -> None:
        preprocessor = {'type': self.preprocessor, **(data_preprocessor or {})}
        super().__init__(*args, data_preprocessor=preprocessor, **kwargs)

    def extract_feat(self, inputs: Tensor | dict) -> tuple[Tensor]:
        """Features of whole images.

        Args:
            inputs: Normalised images, (B, 3, H, W), or what the data preprocessor
                returns.

        Returns:
            What the backbone outputs.
        """
        return super().extract_feat(
            inputs['images'] if isinstance(inputs, dict) else inputs
        )

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


def build_masking(masking: dict, grid: tuple[int, int]) -> BaseMasking:
    """Build a masking strategy for a grid of patches.

    Args:
        masking: Its config.
        grid: Rows and columns of patches.

    Raises:
        ValueError: If the strategy does not suit the grid.
    """
    built = MODELS.build(masking)
    # It checks the grid; on this device nothing is drawn.
    built(1, tuple(grid), torch.device('meta'))
    return built
