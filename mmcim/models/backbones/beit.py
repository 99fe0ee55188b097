# Copyright (c) mmcim contributors. All rights reserved.
"""BEiT vision transformers with fused attention and a single drop path.

mmpretrain's BEiT layers materialise the N x N attention of every head, drop the
feed-forward branch twice per layer, and ignore the dropout rates of the attention.
Here the same networks, with the same parameter names, compute attention by
:func:`torch.nn.functional.scaled_dot_product_attention` and drop each branch once.
The encoder of whole pictures also takes them at any size: its tables of relative
positions follow the grid of patches.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT
from mmpretrain.models.utils import BEiTAttention, resize_pos_embed
from mmpretrain.registry import MODELS
from timm.layers import gen_relative_position_index
from torch import Tensor, nn

from ...transfer.resize import resize_relative_position_table


# A validation meets pictures of a few sizes again and again. The tensors serve a later
# training as well, for which they must not be of inference mode.
@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _relative_position_index(grid: tuple[int, int], device: torch.device) -> Tensor:
    return gen_relative_position_index(grid, class_token=True).to(device)


def relative_position_bias(module: nn.Module, grid: tuple[int, int]) -> Tensor:
    """Look up the bias of each pair of tokens.

    Args:
        module (nn.Module): Owner of a ``relative_position_bias_table`` made for
            ``window_size`` patches, and of its ``relative_position_index``.
        grid (tuple[int, int]): Height and width of the tokens in patches, (h, w).

    Returns:
        Tensor: (num_heads, 1 + h * w, 1 + h * w), contiguous: with the heads as the last
        stride no fused CUDA kernel takes it, and attention falls back to fp32.
    """
    table, index = module.relative_position_bias_table, module.relative_position_index
    grid, own_grid = tuple(grid), tuple(module.window_size)
    if grid != own_grid:
        table = resize_relative_position_table(table, own_grid, grid)
        index = _relative_position_index(grid, table.device)
    return table[index].permute(2, 0, 1).contiguous()


class FusedBEiTAttention(BEiTAttention):
    """mmpretrain's BEiT attention, computed without storing the softmax."""

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x (Tensor): Tokens, (B, N, C).
            rel_pos_bias (Tensor, optional): Bias of each pair of tokens,
                (num_heads, N, N). By default that of the layer's own table, if it has
                one, at the grid of patches that it was made for.

        Returns:
            Tensor: Of the shape of ``x``.
        """
        B, N, C = x.shape
        if self.bias == 'qv_bias':
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        else:
            bias = self.qkv.bias
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.view(B, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)

        if rel_pos_bias is None and self.use_rel_pos_bias:
            rel_pos_bias = relative_position_bias(self, self.window_size)
        if rel_pos_bias is not None:
            rel_pos_bias = rel_pos_bias.to(q.dtype)

        x = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=rel_pos_bias,
            dropout_p=self.attn_drop.p if self.training else 0.0,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(B, N, C)))


class _FusedLayers:
    """Give the layers of a BEiT their fused attention and single drop path.

    Args:
        drop_rate (float): Dropout of embeddings, attention outputs and feed-forward
            layers. Defaults to 0.
        attn_drop_rate (float): Dropout of attention weights. Defaults to 0.
        **kwargs: Arguments of the mmpretrain class.
    """

    def __init__(self, *args, drop_rate=0.0, attn_drop_rate=0.0, **kwargs) -> None:
        super().__init__(*args, drop_rate=drop_rate, **kwargs)
        for layer in self.layers:
            layer.attn = FusedBEiTAttention(
                embed_dims=self.embed_dims,
                num_heads=layer.attn.num_heads,
                window_size=tuple(self.patch_resolution),
                use_rel_pos_bias=layer.attn.use_rel_pos_bias,
                bias=layer.attn.bias,
                attn_drop_rate=attn_drop_rate,
                proj_drop_rate=drop_rate,
            )
            # The layer itself drops the branch.
            layer.ffn.dropout_layer = nn.Identity()
        # The parent froze what has been replaced since, and not for training mode.
        self.train()

    def train(self, mode: bool = True) -> None:
        """Set the mode, in which stages that are frozen stay frozen."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()

    def _freeze_stages(self) -> None:
        """Freeze the first stages, and with them the shared table of positions."""
        super()._freeze_stages()
        if self.rel_pos_bias is not None:
            self.rel_pos_bias.requires_grad_(False)

    def init_weights(self) -> None:
        """Initialise as BEiT does.

        Linear and convolutional weights and tokens: truncated normal of std 0.02; biases
        and the shared table of relative positions: 0. The last weight of each residual
        branch of layer l = 1, 2,
        ... is divided by sqrt(2 l).
        """
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained':
            return
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)
        for depth, layer in enumerate(self.layers, start=1):
            layer.attn.proj.weight.data.div_(math.sqrt(2 * depth))
            layer.ffn.layers[1].weight.data.div_(math.sqrt(2 * depth))


@MODELS.register_module()
class FusedBEiTViT(_FusedLayers, BEiTViT):
    """:class:`mmpretrain.models.BEiTViT`, fused; an encoder of whole pictures.

    It takes pictures of any size. Absolute position embeddings and tables of relative
    positions, shared or per layer, are interpolated for the grid of patches as they would
    be for a model made for that size; at ``img_size`` they are used as they are.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode.

        Args:
            x (Tensor): Images, (B, 3, H, W).

        Returns:
            tuple[Tensor, ...]: What ``out_type`` says after each of the layers
            ``out_indices``; for 'featmap' (B, C, h, w) each.
        """
        x, grid = self.patch_embed(x)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        if self.pos_embed is not None:
            x = x + resize_pos_embed(
                self.pos_embed,
                self.patch_resolution,
                grid,
                mode=self.interpolate_mode,
                num_extra_tokens=self.num_extra_tokens,
            )
        x = self.drop_after_pos(x)

        shared = None
        if self.rel_pos_bias is not None:
            shared = relative_position_bias(self.rel_pos_bias, grid)
        outs = []
        for i, layer in enumerate(self.layers):
            own = layer.attn.use_rel_pos_bias
            x = layer(x, relative_position_bias(layer.attn, grid) if own else shared)
            if i == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(self._format_output(x, grid))
        return tuple(outs)


@MODELS.register_module()
class FusedBEiTPretrainViT(_FusedLayers, BEiTPretrainViT):
    """:class:`mmpretrain.models.BEiTPretrainViT`, fused; takes masks as well.

    ``forward(images (B, 3, H, W), mask (B, h, w))`` puts a learned mask token in the
    place of each patch embedding where the mask is 1 and gives a tuple of tokens
    (B, 1 + h * w, C). Without a mask it sees whole pictures.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode; see the class.

        Raises:
            ValueError: If pictures to be masked have not the size ``img_size``.
        """
        if mask is not None and tuple(x.shape[-2:]) != tuple(self.img_size):
            raise ValueError(
                f'pictures of {tuple(x.shape[-2:])} pixels came to a masked encoder for '
                f'{tuple(self.img_size)}; set img_size of the backbone, or the size '
                "of the pipeline's crops"
            )
        return super().forward(x, mask)
