# Copyright (c) mmcim contributors. All rights reserved.
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class RevDetHead(BaseModule):
    """The RevDet objective: was this token replaced?

    One logit per visual token from a 1 x 1 convolution. Where the feature map is coarser
    than the grid of tokens (ResNet-50: 7 x 7 for 14 x 14), the convolution gives
    ``upscale ** 2`` logits per cell, which a pixel shuffle spreads out.

    Args:
        in_channels (int): Channels C of the feature map.
        upscale (int): Tokens per cell and side. Defaults to 1.
        init_cfg (dict, optional): Defaults to a truncated normal of std 0.02.
    """

    def __init__(
        self,
        in_channels: int,
        upscale: int = 1,
        init_cfg: dict | None = dict(  # noqa: B006
            type='TruncNormal', layer='Conv2d', std=0.02, bias=0
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.decoder = nn.Sequential(
            nn.Conv2d(in_channels, upscale**2, kernel_size=1),
            nn.PixelShuffle(upscale),
        )

    def forward(self, feats: Tensor) -> Tensor:
        """Give the logits of replacement.

        Args:
            feats (Tensor): Feature map, (B, C, h / upscale, w / upscale).

        Returns:
            Tensor: (B, h, w); positive means replaced.
        """
        return self.decoder(feats).squeeze(1)

    def loss(self, logits: Tensor, replaced: Tensor) -> Tensor:
        """Binary cross-entropy over all tokens.

        Args:
            logits (Tensor): (B, h, w).
            replaced (Tensor): bool, (B, h, w); True is replaced.

        Returns:
            Tensor: Scalar.
        """
        return F.binary_cross_entropy_with_logits(logits.float(), replaced.float())
