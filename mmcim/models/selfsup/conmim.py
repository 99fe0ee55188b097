# Copyright (c) mmcim contributors. All rights reserved.
"""ConMIM: masked image modeling with denoising contrast (arXiv 2205.09616)."""

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..layers.momentum import MomentumEncoder


@MODELS.register_module()
class ConMIM(BaseSelfSupervisor):
    """Masked image modeling whose targets are the patches of a momentum encoder.

    An encoder sees a picture with most patches masked. A momentum encoder, its slowly
    following copy, sees the full picture in other colours. Each masked patch has to find
    its counterpart among all patches of the full picture, after a projector, which the
    momentum encoder has a copy of as well.

    A run needs :class:`MomentumUpdateHook`, without which the momentum encoder stays as
    it was initialised.

    Args:
        backbone (dict): A masked encoder that gives all tokens, such as
            :class:`FusedBEiTPretrainViT`.
        neck (dict): The projector of (M, C) tokens, such as mmpretrain's
            ``NonLinearNeck``. Its batch norms see all tokens of all pictures.
        head (dict): Defaults to :class:`DenoisingContrastHead`.
        masking (dict): The law of the masks, see :mod:`mmcim.models.layers.masking`.
            Defaults to 37 of 49 squares of 2 x 2 patches.
        momentum (float): At the beginning of the training. Defaults to 0.996.
        end_momentum (float): At its end. Defaults to 1.
        export (str): Which backbone is kept after pre-training and gives the features:
            ``'momentum'``, which the authors fine-tune, or ``'online'``. Defaults to
            'momentum'.
        data_preprocessor (dict, optional): See :class:`ConMIMDataPreprocessor`.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        ValueError: If ``export`` is something else.
    """

    EXPORTS = dict(momentum='momentum_encoder.backbone.', online='backbone.')

    backbone_prefix = EXPORTS['momentum']
    """What the names of the tensors begin with that are kept after pre-training."""

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict = dict(type='DenoisingContrastHead'),  # noqa: B006
        masking: dict = dict(type='RatioMasking', ratio=0.75, unit=2),  # noqa: B006
        momentum: float = 0.996,
        end_momentum: float = 1.0,
        export: str = 'momentum',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = {'type': 'ConMIMDataPreprocessor', **(data_preprocessor or {})}
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=preprocessor,
            init_cfg=init_cfg,
        )
        if export not in self.EXPORTS:
            raise ValueError(f'export={export!r} is none of {tuple(self.EXPORTS)}')
        self.masking = MODELS.build(masking)
        self.momentum_encoder = MomentumEncoder(
            self, ('backbone', 'neck'), momentum, end_momentum
        )
        self.backbone_prefix = self.EXPORTS[export]

    def init_weights(self) -> None:
        """Initialise; the momentum encoder begins as a copy."""
        super().init_weights()
        self.momentum_encoder.copy_from(self)

    def extract_feat(self, inputs: Tensor | dict) -> tuple[Tensor]:
        """Features of full pictures from the backbone that is kept.

        Args:
            inputs (Tensor | dict): Normalised pictures, (B, 3, H, W), or what the data
                preprocessor gives.

        Returns:
            tuple[Tensor]: All tokens, (B, 1 + h * w, C).
        """
        images = inputs['images'] if isinstance(inputs, dict) else inputs
        backbone = self.get_submodule(self.backbone_prefix.rstrip('.'))
        return backbone(images, mask=None)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Mask, encode, project, contrast.

        Args:
            inputs (dict): ``images`` for the encoder that learns and ``momentum_images``
                of the same geometry for the momentum encoder, normalised, (B, 3, H, W).
            data_samples (list, optional): Unused.

        Returns:
            dict[str, Tensor]: ``loss`` and ``accuracy``, see
            :class:`DenoisingContrastHead`.
        """
        images = inputs['images']
        grid = tuple(self.backbone.patch_resolution)
        mask = self.masking(len(images), grid, images.device)

        # The keys come first: then nothing else needs memory at the same time.
        with torch.no_grad():
            keys = self._encode(
                self.momentum_encoder, inputs['momentum_images'], mask=None
            )
        queries = self._encode(self, images, mask)
        return self.head.loss(queries, keys, mask)

    @staticmethod
    def _encode(networks: nn.Module, images: Tensor, mask: Tensor | None) -> Tensor:
        """Project all tokens, so that batch norms see the class token, too.

        Args:
            networks (nn.Module): Owner of ``backbone`` and ``neck``.
            images (Tensor): (B, 3, H, W).
            mask (Tensor, optional): bool, (B, h, w).

        Returns:
            Tensor: Projected patches, (B, h * w, D).
        """
        tokens = networks.backbone(images, mask)[-1]
        (projected,) = networks.neck((tokens.flatten(0, 1),))
        projected = projected.unflatten(0, tokens.shape[:2])
        return projected[:, networks.backbone.num_extra_tokens :]
