# Copyright (c) mmcim contributors. All rights reserved.
"""BEiT vision transformers with fused attention and a single drop path.

mmpretrain's BEiT layers materialise the N x N attention of every head, drop the
feed-forward branch twice per layer, and ignore the dropout rates of the attention.
Here the same networks, with the same parameter names, compute attention by
:func:`torch.nn.functional.scaled_dot_product_attention` and drop each branch once.
"""

import math

import torch
import torch.nn.functional as F
from mmengine.model.weight_init import trunc_normal_
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT
from mmpretrain.models.utils import BEiTAttention
from mmpretrain.registry import MODELS
from torch import Tensor, nn


class FusedBEiTAttention(BEiTAttention):
    """mmpretrain's BEiT attention, computed without storing the softmax."""

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x (Tensor): Tokens, (B, N, C).
            rel_pos_bias (Tensor, optional): Bias shared by all layers,
                (num_heads, N, N).

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

        if self.use_rel_pos_bias:
            own = self.relative_position_bias_table[self.relative_position_index]
            own = own.permute(2, 0, 1)
            rel_pos_bias = own if rel_pos_bias is None else own + rel_pos_bias
        if rel_pos_bias is not None:
            rel_pos_bias = rel_pos_bias.to(q.dtype)

        x = F.scaled_dot_product_attention(
            q, k, v,
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
    """:class:`mmpretrain.models.BEiTViT`, fused; an encoder of whole pictures."""


@MODELS.register_module()
class FusedBEiTPretrainViT(_FusedLayers, BEiTPretrainViT):
    """:class:`mmpretrain.models.BEiTPretrainViT`, fused; takes masks as well.

    ``forward(images (B, 3, H, W), mask (B, h, w))`` puts a learned mask token in the
    place of each patch embedding where the mask is 1 and gives a tuple of tokens
    (B, 1 + h * w, C).
    """
