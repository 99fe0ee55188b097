# Copyright (c) mmcim contributors. All rights reserved.
"""ConMIM: masked image modeling with denoising contrast (arXiv 2205.09616)."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor

from ..layers.masking import IGNORED
from ..layers.momentum import MomentumEncoder
from .base import MomentumSupervisor, patch_loss


@MODELS.register_module()
class ConMIM(MomentumSupervisor):
    """Masked image modeling whose targets are the patches of a momentum encoder.

    An encoder sees an image with most patches masked. A momentum encoder, a slowly
    following copy, sees the full, colour-jittered image. Each masked patch has to be
    matched with its counterpart among all patches of the full image. Both encoders have a
    projector.

    :class:`StrictRunner` updates the momentum encoder; in a custom loop, call its
    ``update`` after each optimizer step.

    Args:
        backbone: A masked encoder that outputs all tokens, such as
            :class:`FusedBEiTPretrainViT`.
        neck: The projector of (M, C) tokens, such as mmpretrain's ``NonLinearNeck``. Its
            batch norms see all tokens of all images.
        head: Defaults to :class:`DenoisingContrastHead`.
        momentum: At the start of training.
        export: Which backbone is exported after pre-training and computes the features:
            ``'momentum'``, which the authors fine-tune, or ``'online'``.
        **kwargs: See :class:`MomentumSupervisor`; ``masking`` defaults to 37 of 49
            squares of 2 x 2 patches.

    Raises:
        ValueError: If ``export`` is something else.
    """

    preprocessor = 'ConMIMDataPreprocessor'
    default_masking = dict(type='RatioMasking', ratio=0.75, mask_patch_size=2)
    EXPORTS = dict(momentum='momentum_encoder.backbone.', online='backbone.')

    backbone_prefix = EXPORTS['momentum']
    """Prefix of the exported backbone's tensors."""

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict = dict(type='DenoisingContrastHead'),  # noqa: B006
        momentum: float = 0.996,
        export: str = 'momentum',
        **kwargs,
    ) -> None:
        super().__init__(backbone, neck, head, momentum=momentum, **kwargs)
        if export not in self.EXPORTS:
            raise ValueError(f'export={export!r} is none of {tuple(self.EXPORTS)}')
        self.backbone_prefix = self.EXPORTS[export]

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Mask, encode, project, contrast.

        Args:
            inputs: ``images`` for the online encoder and ``momentum_images`` of the same
                geometry for the momentum encoder, normalised, (B, 3, H, W).
            data_samples: Unused.

        Returns:
            ``loss`` and ``accuracy``, see :class:`DenoisingContrastHead`.
        """
        # mask
        images = inputs['images']
        mask = self.draw_mask(images)  # (B, h, w)
        # encode and project; the keys first: then nothing else needs memory
        with torch.no_grad():
            keys = self._encode(self.momentum_encoder, inputs['momentum_images'], None)
        queries = self._encode(self, images, mask)  # (B, h * w, D), as the keys
        # contrast
        return self.head.loss(queries, keys, mask)

    @staticmethod
    def _encode(
        modules: MomentumSupervisor | MomentumEncoder, images: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Project all tokens, so that batch norms see the class token, too.

        Args:
            modules: Owner of ``backbone`` and ``neck``.
            images: Normalised, (B, 3, H, W).
            mask: bool, (B, h, w); True is masked.

        Returns:
            Projected patches, (B, h * w, D).
        """
        tokens = modules.backbone(images, mask)[-1]  # (B, 1 + h * w, C)
        (projected,) = modules.neck((tokens.flatten(0, 1),))  # (B * (1 + h * w), D)
        projected = projected.unflatten(0, tokens.shape[:2])  # (B, 1 + h * w, D)
        return projected[:, modules.backbone.num_extra_tokens :]


@MODELS.register_module()
class DenoisingContrastHead(BaseModule):
    """Find each masked patch among all patches of its image.

    For the masked patches j of an image of N patches the loss is

    ``-log(exp(<q_j, k_j> / tau) / sum_i exp(<q_j, k_i> / tau))``, i = 1 ... N,

    with queries q and keys k of length 1, averaged over the masked patches of an image
    and then over images, so that it does not depend on how a batch is split over
    processes. The other patches of the same image are the only negatives. Keys get no
    gradient.

    Args:
        temperature: tau.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Compare, in float32, regardless of the precision of the encoders.

        Args:
            queries: (B, N, D), of any length.
            keys: Likewise; without gradient from here on.

        Returns:
            Cosines over the temperature, float32, (B, N, N): a row per query.
        """
        with torch.autocast(queries.device.type, enabled=False):
            queries = F.normalize(queries.float(), dim=-1) / self.temperature
            keys = F.normalize(keys.detach().float(), dim=-1)
            return queries @ keys.transpose(1, 2)

    def loss(self, queries: Tensor, keys: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Contrast.

        Args:
            queries: Patches of the masked images, (B, N, D).
            keys: Patches of the full images, (B, N, D).
            mask: bool, (B, h, w), h * w = N; True is masked.

        Returns:
            ``loss``, and to watch ``accuracy``, the fraction of masked patches whose own
            key is the nearest.
        """
        logits, mask = self(queries, keys), mask.flatten(1)  # (B, N, N), (B, N)
        own = torch.arange(logits.size(1), device=logits.device).expand_as(mask)
        loss, accuracy = patch_loss(logits, own.masked_fill(~mask, IGNORED))
        return dict(loss=loss, accuracy=accuracy)
