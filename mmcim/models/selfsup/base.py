# Copyright (c) mmcim contributors. All rights reserved.
"""The base of all methods: data preprocessor, features, masks, and a loss of patches."""

from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from mmcim.evaluation import token_accuracy

from ...checkpoints.layout import backbone_prefix
from ..layers.masking import IGNORED
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


def patch_loss(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of masked patches, averaged per image, then over images.

    Every image weighs the same however many of its patches are masked; so the loss does
    not depend on how a batch is split over processes. Patches are left out by their
    target: nothing is copied, and the host need not wait for their number.

    Args:
        logits: (B, N, V).
        target: int64, (B, N); :data:`IGNORED` where a patch does not count.

    Returns:
        The loss, and the fraction of patches whose target has the highest logit.
    """
    losses = F.cross_entropy(  # (B, N), 0 where ignored
        logits.flatten(0, 1).float(), target.flatten(), reduction='none'
    ).view_as(target)
    count = (target != IGNORED).sum(dim=1).clamp(min=1)  # (B,)
    loss = (losses.sum(dim=1) / count).mean()
    return loss, token_accuracy(logits, target)
