# Copyright (c) mmcim contributors. All rights reserved.
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class MaskedTokenHead(BaseModule):
    """A linear layer that names the visual token of each masked patch.

    The vocabulary is wide (8192 in the paper) and about half of the patches are masked,
    so only those reach the layer.

    Args:
        embed_dims (int): Width C of the tokens.
        vocab_size (int): Number V of visual tokens. Defaults to 8192.
        init_cfg (dict, optional): Defaults to BEiT's normal of std 0.02, truncated at
            one sigma; the bounds of ``TruncNormal`` are absolute.
    """

    def __init__(
        self,
        embed_dims: int,
        vocab_size: int = 8192,
        init_cfg: dict | None = dict(  # noqa: B006
            type='TruncNormal', layer='Linear', std=0.02, a=-0.02, b=0.02, bias=0
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.vocab_size = vocab_size
        self.fc = nn.Linear(embed_dims, vocab_size)

    def forward(self, feats: Tensor, mask: Tensor) -> Tensor:
        """Classify the masked patches.

        Args:
            feats (Tensor): Patch tokens without the class token, (B, h * w, C).
            mask (Tensor): bool, (B, h, w); True is masked.

        Returns:
            Tensor: Logits, (M, V), of the M masked patches of the batch, in the order
            of ``ids[mask]``.
        """
        return self.fc(feats[mask.flatten(1)])

    def loss(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Cross-entropy of masked patches, averaged per picture, then over pictures.

        Every picture weighs the same however many of its patches are masked; so the
        loss does not depend on how a batch is split over processes.

        Args:
            logits (Tensor): (M, V).
            target (Tensor): Golden ids of the masked patches, int64, (M,).
            mask (Tensor): bool, (B, h, w).

        Returns:
            Tensor: Scalar.
        """
        loss = F.cross_entropy(logits.float(), target, reduction='none')
        num_masked = mask.sum(dim=(1, 2))
        image_of = torch.repeat_interleave(num_masked, output_size=len(target))
        return (loss / num_masked[image_of]).sum() / len(mask)
