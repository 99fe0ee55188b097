# Copyright (c) mmcim contributors. All rights reserved.
"""Layers of the BEiT-type encoder, and their relative position bias."""

from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.utils import BEiTAttention, build_norm_layer
from timm.layers import gen_relative_position_index
from torch import Tensor, nn

from ...checkpoints.layout import Grid
from ...checkpoints.resize import resize_relative_position_table


def relative_position_bias(module: Any, grid: Grid, class_token: bool = True) -> Tensor:
    """Look up the bias of each pair of tokens.

    Args:
        module: Owner of a ``relative_position_bias_table`` made for
            ``window_size`` patches, and of its ``relative_position_index``.
        grid: Rows and columns of patches, (h, w). The table is
            interpolated where it is made for another grid.
        class_token: Whether a class token precedes the patches.

    Returns:
        (num_heads, N, N) for N tokens, 1 + h * w or h * w, contiguous: with the
        heads as the last stride no fused CUDA kernel accepts it, and attention falls
        back to fp32.
    """
    table, index = module.relative_position_bias_table, module.relative_position_index
    if grid != module.window_size:
        table = resize_relative_position_table(table, module.window_size, grid)
    if grid != module.window_size or not class_token:
        index = gen_relative_position_index(
            grid, class_token=class_token, device=table.device
        )
    return table[index].permute(2, 0, 1).contiguous()  # (N, N, heads) -> (heads, N, N)


class RelativePositionBias(nn.Module):
    """The relative position bias table that all layers share.

    Args:
        grid: Rows and columns of patches that it is made for.
        num_heads: Number of attention heads.
    """

    def __init__(self, grid: Grid, num_heads: int) -> None:
        super().__init__()
        self.window_size = grid
        # The class token has the last three: to patches, from patches, to itself.
        rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
        index = gen_relative_position_index(grid, class_token=True)
        self.register_buffer('relative_position_index', index)


class FusedAttention(BEiTAttention):
    """mmpretrain's ``BEiTAttention``, computed by a fused kernel.

    Its own relative position bias table is added by :class:`BEiTLayer`.
    """

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Tokens, (B, N, C).
            rel_pos_bias: Added to the scores, (num_heads, N, N).

        Returns:
            Of the shape of ``x``.
        """
        # A bias of keys would add the same to all scores of a query.
        bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias)  # (B, N, 3 * C)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, C / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C / heads)
        if rel_pos_bias is not None:
            rel_pos_bias = rel_pos_bias.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, rel_pos_bias)
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))  # (B, N, C)


class BEiTLayer(nn.Module):
    """Attention and feed-forward branch, scaled per channel and dropped per image.

    Args:
        embed_dims: Number of channels.
        feedforward_channels: Number of channels inside the feed-forward branch.
        layer_scale_init_value: Initial scale of both branches; 0 for no scale.
        drop_rate: Dropout of what both branches compute.
        drop_path_rate: Probability of dropping a branch.
        norm_cfg: Config of the layer norms.
        num_heads: Number of attention heads.
        window_size: Rows and columns of patches that its own relative position bias table
            is made for. None for no table.
    """

    def __init__(
        self,
        embed_dims: int,
        feedforward_channels: int,
        layer_scale_init_value: float,
        drop_rate: float,
        drop_path_rate: float,
        norm_cfg: dict,
        num_heads: int,
        window_size: Grid | None,
    ) -> None:
        super().__init__()
        self.gamma_1: Any = 1.0
        self.gamma_2: Any = 1.0
        if layer_scale_init_value > 0:
            scale = torch.full((embed_dims,), float(layer_scale_init_value))
            self.gamma_1, self.gamma_2 = nn.Parameter(scale), nn.Parameter(scale.clone())
        self.ln1 = build_norm_layer(norm_cfg, embed_dims)
        own = window_size is not None
        self.attn = FusedAttention(
            embed_dims, num_heads, window_size, own, proj_drop_rate=drop_rate
        )
        self.ln2 = build_norm_layer(norm_cfg, embed_dims)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            ffn_drop=drop_rate,
            add_identity=False,  # the layer adds and drops the branch
        )
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, bias: Tensor | None, grid: Grid | None = None) -> Tensor:
        """Process tokens.

        Args:
            x: Tokens, (B, 1 + h * w, C).
            bias: Relative position bias that the layers share,
                (num_heads, 1 + h * w, 1 + h * w). A layer with its own table ignores it.
            grid: Rows and columns of patches, (h, w). Defaults to those that the layer's
                table is made for.

        Returns:
            Of the shape of ``x``.
        """
        x = x + self.drop_path(self.gamma_1 * self.attend(self.ln1(x), bias, grid))
        return x + self.drop_path(self.gamma_2 * self.ffn(self.ln2(x)))

    def attend(self, x: Tensor, bias: Tensor | None, grid: Grid | None) -> Tensor:
        """Compute the attention of normalised tokens, see :meth:`forward`."""
        # Looked up here, not by the encoder, so that activation checkpointing does not
        # keep the bias of each layer.
        if self.attn.use_rel_pos_bias:
            bias = relative_position_bias(self.attn, grid or self.attn.window_size)
        return self.attn(x, bias)
