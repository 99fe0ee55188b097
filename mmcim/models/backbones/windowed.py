# Copyright (c) mmcim contributors. All rights reserved.
"""Vision transformers for large images: attention in windows, in four layers global.

Global attention costs the square of the number of patches, 4,096 at 1,024 px. As in
ViTDet (Li et al., arXiv 2203.16527, section 3), windows that do not move take its place
in all layers but four, evenly spaced up to the last. Neither network has a class token.
"""

from typing import Any

from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.backbones.vit_sam import (
    ViTSAM,
    window_partition,
    window_unpartition,
)
from mmpretrain.registry import MODELS
from torch import Tensor

from ...checkpoints.layout import Grid, last_of_quarters
from .beit import FusedBEiTViT
from .beit_layers import BEiTLayer, relative_position_bias


@MODELS.register_module()
class WindowedViT(ViTSAM):
    """A ViT with attention in windows, which loads files of any ``VisionTransformer``.

    It is mmpretrain's ``ViTSAM`` without the reduction of channels. Relative position
    embeddings, which files of a pre-training do not have, start at zero. What a window
    has beyond the image is filled with zeros.

    Args:
        arch: A name that ``VisionTransformer`` knows, or a dict of ``embed_dims``,
            ``num_layers``, ``num_heads`` and ``feedforward_channels``.
        out_type: See :class:`mmpretrain.models.ViTSAM`; by default a map, (B, C, h, w).
        **kwargs: Likewise: ``img_size``, ``patch_size``, ``window_size`` in patches (14
            by default), ``use_rel_pos``, ``drop_path_rate`` and the like.
    """

    def __init__(
        self, arch: str | dict = 'base', out_type: str = 'featmap', **kwargs: Any
    ) -> None:
        sizes = VisionTransformer.arch_zoo[arch] if isinstance(arch, str) else arch
        sizes = dict(sizes, global_attn_indexes=last_of_quarters(sizes['num_layers']))
        super().__init__(sizes, out_type=out_type, out_channels=0, **kwargs)


class WindowedBEiTLayer(BEiTLayer):
    """A BEiT-type layer without a class token, which attends in windows."""

    window_size = 0
    """Rows and columns of patches of a window; 0 for global attention."""

    def attend(self, x: Tensor, bias: Tensor | None, grid: Grid | None) -> Tensor:
        """Attend within each window; ``grid`` is needed, ``bias`` ignored."""
        assert grid is not None
        x = x.unflatten(1, grid)  # (B, h, w, C)
        if self.window_size:
            x, padded = window_partition(x, self.window_size)  # (B * windows, s, s, C)
        inside = x.shape[1], x.shape[2]
        if self.attn.use_rel_pos_bias:
            bias = relative_position_bias(self.attn, inside, class_token=False)
        x = self.attn(x.flatten(1, 2), bias).unflatten(1, inside)
        if self.window_size:
            x = window_unpartition(x, self.window_size, padded, grid)
        return x.flatten(1, 2)


@MODELS.register_module()
class WindowedBEiTViT(FusedBEiTViT):
    """A BEiT-type transformer with attention in windows, which loads BEiT's and ConMIM's.

    Each layer has a relative position bias table for the grid of the pre-training,
    ``img_size``, and interpolates it for its windows or, in the global layers, for the
    image. A table that all layers shared is copied to each of them.

    Args:
        window_size: Rows and columns of patches of a window.
        out_type: See :class:`FusedBEiTViT`; by default a map, (B, C, h, w).
        **kwargs: Likewise, but for ``use_shared_rel_pos_bias``.
    """

    num_extra_tokens = 0
    layer_type = WindowedBEiTLayer

    def __init__(
        self, window_size: int = 16, out_type: str = 'featmap', **kwargs: Any
    ) -> None:
        super().__init__(out_type=out_type, use_shared_rel_pos_bias=False, **kwargs)
        attend_globally = last_of_quarters(self.num_layers)
        layers: Any = self.layers
        for number, layer in enumerate(layers):
            if number not in attend_globally:
                layer.window_size = window_size

    def _add_embeddings(self, *args: Any) -> None:
        super()._add_embeddings(*args)
        self.cls_token = None
