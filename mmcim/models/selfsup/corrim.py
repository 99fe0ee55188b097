# Copyright (c) mmcim contributors. All rights reserved.
"""Correlational Image Modeling (arXiv 2303.12670)."""

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..layers.momentum import MomentumEncoder


@MODELS.register_module()
class CorrIM(BaseSelfSupervisor):
    """Correlational Image Modeling: find where in a picture its crops come from.

    An online encoder sees the exemplars, which are crops of random size, shape, rotation
    and colours; a momentum encoder, the bootstrap target, sees the whole picture, the
    context. One block of cross-attention correlates the two, and for each exemplar every
    pixel of the context is told in or out.

    Both encoders share the class token and the position embedding, as released.
    :class:`MomentumUpdateHook` moves the momentum encoder once per optimizer step; the
    released code does so after each accumulated batch as well.

    Args:
        backbone (dict): The online encoder, which is kept. It gives all its tokens
            (``out_type='raw'``) or a feature map, so that a CNN will do. Fixed positions
            and a frozen patch projection are its own: ``type='FixedPositionViT',
            stop_grad_conv1=True``.
        neck (dict): :class:`CorrelationDecoder`.
        head (dict): :class:`CorrelationHead`. Defaults to its defaults.
        momentum (float): At the beginning of the training. Defaults to 0.99.
        end_momentum (float): At its end. Defaults to 1.
        data_preprocessor (dict, optional): See :class:`CorrIMDataPreprocessor`.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        ValueError: If context or exemplars cannot be divided into patches.
    """

    backbone_prefix = 'backbone.'
    """What the names of the tensors begin with that are kept after pre-training."""

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict = dict(type='CorrelationHead'),  # noqa: B006
        momentum: float = 0.99,
        end_momentum: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor={
                'type': 'CorrIMDataPreprocessor',
                **(data_preprocessor or {}),
            },
            init_cfg=init_cfg,
        )
        self.momentum_encoder = MomentumEncoder(
            self, ['backbone'], momentum, end_momentum
        )
        self._check_patches()
        for name in ('cls_token', 'pos_embed'):
            shared = getattr(self.backbone, name, None)
            if isinstance(shared, nn.Parameter):
                setattr(self.momentum_encoder.backbone, name, shared)

    def _check_patches(self) -> None:
        """What is no whole patch would be padded, and the label maps shifted."""
        patch_embed = getattr(self.backbone, 'patch_embed', None)
        exemplars = getattr(self.data_preprocessor, 'exemplars', None)
        if patch_embed is None or exemplars is None:
            return
        patch = patch_embed.projection.stride[0]
        sizes = {
            'context_size': self.data_preprocessor.context_size,
            'exemplars.size': (exemplars.size,),
        }
        for name, sides in sizes.items():
            if any(side % patch for side in sides):
                raise ValueError(
                    f'model.data_preprocessor.{name} is {sides}, which is no multiple of '
                    f"the backbone's patch_size={patch}; set one of the two"
                )

    def init_weights(self) -> None:
        """Initialise, and begin with two equal encoders."""
        super().init_weights()
        self.momentum_encoder.copy_from(self)

    def extract_feat(self, inputs: Tensor | dict) -> tuple[Tensor]:
        """Features of whole pictures from the online encoder.

        Args:
            inputs (Tensor | dict): Normalised pictures, (B, 3, H, W), or what the data
                preprocessor gives.

        Returns:
            tuple[Tensor]: What the backbone gives.
        """
        images = inputs['images'] if isinstance(inputs, dict) else inputs
        return self.backbone(images)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Embed, correlate, compare.

        Args:
            inputs (dict): ``context`` (B, 3, H, W) and ``exemplars`` (B, E, 3, s, s),
                normalised; ``regions``, bool, (B, E, H, W), True where the exemplar is.
            data_samples (list, optional): Unused.

        Returns:
            dict[str, Tensor]: ``loss_corr``; to watch, all in [0, 1]: ``iou`` of the
            pixels told in with the true region, averaged over the exemplars;
            ``pixel_acc``; and ``pixel_base_acc``, the accuracy of the better of the
            answers 'all in' and 'all out'.
        """
        regions = inputs['regions']
        logits = self.predict(inputs)

        found = logits.detach().argmax(dim=2).bool()
        union = (found | regions).sum(dim=(-2, -1)).clamp(min=1)
        share = regions.float().mean()
        return dict(
            loss_corr=self.head.loss(logits, regions),
            iou=((found & regions).sum(dim=(-2, -1)) / union).mean(),
            pixel_acc=(found == regions).float().mean(),
            pixel_base_acc=torch.maximum(share, 1 - share),
        )

    def predict(self, inputs: dict) -> Tensor:
        """Embed and correlate; see :meth:`loss` for the argument.

        Returns:
            Tensor: Logits of outside and inside, float32, (B, E, 2, H, W).
        """
        context, exemplars = inputs['context'], inputs['exemplars']
        # embed
        with torch.no_grad():
            targets = _tokens(self.momentum_encoder.backbone(context))
        crops = _tokens(self.backbone(exemplars.flatten(0, 1)))
        # correlate
        maps = self.neck(targets, crops.unflatten(0, exemplars.shape[:2]))
        return self.head(maps, context.shape[-2:])


def _tokens(features: tuple[Tensor]) -> Tensor:
    """The last feature map (B, C, h, w), or all tokens, as tokens (B, N, C)."""
    last = features[-1]
    if last.ndim == 4:
        return last.flatten(2).transpose(1, 2)
    if last.ndim != 3:
        raise TypeError(
            f'the backbone gave an output of shape {tuple(last.shape)}, but CorrIM needs '
            "tokens (B, N, C) or a feature map (B, C, h, w); set out_type='raw' for a ViT"
        )
    return last
