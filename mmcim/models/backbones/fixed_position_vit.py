# Copyright (c) mmcim contributors. All rights reserved.
"""A ViT with fixed sine-cosine position embeddings."""

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import MoCoV3ViT
from mmpretrain.registry import MODELS
from torch import Tensor

from ...checkpoints.layout import Grid


@MODELS.register_module()
class FixedPositionViT(MoCoV3ViT):
    """mmpretrain's ``MoCoV3ViT`` with position embeddings fixed from the start.

    They are sines and cosines, and other layers start with Xavier's initialisation, by
    :meth:`init_weights`. There alone mmpretrain freezes the embeddings: too late for
    ``DistributedDataParallel``, which by then waits for their gradient, and not at all
    with pre-trained weights, so that a comparison with random ones would not be fair.

    For images of another size the embeddings are interpolated by scale factors of a tenth
    of a patch more than needed, as in CorrIM's and DINO's code: samples are up to 0.3
    patches from where ``VisionTransformer`` takes them.

    Args:
        **kwargs: See :class:`mmpretrain.models.selfsup.MoCoV3ViT`; ``patch_size`` is
            needed.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pos_embed.requires_grad = False

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode images of any size, (B, 3, H, W), see ``VisionTransformer``."""
        x, grid = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.pre_norm(self.drop_after_pos(x + self._positions(grid)))
        outputs = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outputs.append(self._format_output(x, grid))
        return tuple(outputs)

    def _positions(self, grid: Grid) -> Tensor:
        """Position embeddings of this many rows and columns, (1, N, C)."""
        own = tuple(self.patch_resolution)
        if tuple(grid) == own:
            return self.pos_embed
        extra = self.pos_embed[:, : self.num_extra_tokens]
        table = self.pos_embed[:, self.num_extra_tokens :].unflatten(1, own)
        table = F.interpolate(
            table.permute(0, 3, 1, 2),
            scale_factor=[(side + 0.1) / of for side, of in zip(grid, own)],
            mode=self.interpolate_mode,
        )
        return torch.cat([extra, table.flatten(2).transpose(1, 2)], dim=1)
