# Copyright (c) mmcim contributors. All rights reserved.
"""What a network of mmpretrain is, in terms that other libraries know as well."""

from dataclasses import dataclass

from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn


@dataclass(frozen=True)
class Transformer:
    """A ViT, or a BEiT where ``beit`` is true.

    Attributes:
        beit (bool): Whether it is a BEiT: positions may be relative, keys have no bias.
        embed_dims (int): Width.
        num_layers (int): Depth.
        num_heads (int): Heads of each attention.
        hidden_dims (int): Width inside the feed-forward layers.
        img_size (tuple[int, int]): Height and width in pixels.
        patch_size (int): Side of a patch in pixels.
        in_channels (int): Channels of the images.
        eps (float): Of all layer norms.
        class_token (bool): Whether there is one.
        absolute_positions (bool): Whether position embeddings are added to the patches.
        relative_positions (str | None): 'layers', 'shared' or None.
        qkv_bias (bool): Whether queries and values have a bias.
        layer_scale (bool): Whether branches are scaled per channel.
        token_norm (bool): Whether the last tokens are normalised.
        pooled_norm (bool): Whether the mean of the patches is.
        pooling (str): 'token' or 'avg', what the network itself would give.
    """

    beit: bool
    embed_dims: int
    num_layers: int
    num_heads: int
    hidden_dims: int
    img_size: tuple[int, int]
    patch_size: int
    in_channels: int
    eps: float
    class_token: bool
    absolute_positions: bool
    relative_positions: str | None
    qkv_bias: bool
    layer_scale: bool
    token_norm: bool
    pooled_norm: bool
    pooling: str


def describe_transformer(net: nn.Module) -> Transformer:
    """Describe a ViT or BEiT, as far as other libraries can express it."""
    beit = _is_beit(net)
    patches, layer = net.patch_embed.projection, net.layers[0]
    relative = None
    if beit and net.use_rel_pos_bias:
        relative = 'layers'
    elif beit and net.rel_pos_bias is not None:
        relative = 'shared'
    bias = layer.attn.bias if beit else layer.attn.qkv.bias is not None
    scaled = 'gamma_1' if beit else 'attn.gamma1.weight'
    return Transformer(
        beit=beit,
        embed_dims=net.embed_dims,
        num_layers=net.num_layers,
        num_heads=layer.attn.num_heads,
        hidden_dims=layer.ffn.layers[0][0].out_features,
        img_size=tuple(net.img_size),
        patch_size=patches.kernel_size[0],
        in_channels=patches.in_channels,
        eps=layer.ln1.eps,
        class_token=net.cls_token is not None,
        absolute_positions=net.pos_embed is not None,
        relative_positions=relative,
        qkv_bias=bool(bias),
        layer_scale=scaled in layer.state_dict(),
        token_norm=net.final_norm,
        pooled_norm=net.out_type == 'avg_featmap',
        pooling='token' if net.out_type == 'cls_token' else 'avg',
    )


def is_transformer(net: nn.Module) -> bool:
    """Tell whether a network is mmpretrain's ViT or BEiT, or derived from one."""
    return isinstance(net, VisionTransformer) or _is_beit(net)


def _is_beit(net: nn.Module) -> bool:
    # Only mmpretrain's BEiTViT and mmcim's encoder have this attribute.
    return hasattr(net, 'use_rel_pos_bias')


def without_key_bias(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give a BEiT separate biases of queries and values, as its authors have.

    A bias of the keys adds the same to all scores of a query, which the softmax takes
    away again: leaving it out changes nothing.

    Args:
        tensors (dict[str, Tensor]): With ``attn.qkv.bias`` (3 C) or without.

    Returns:
        dict[str, Tensor]: With ``attn.q_bias`` and ``attn.v_bias`` (C) instead.
    """
    split = {}
    for name, value in tensors.items():
        if name.endswith('attn.qkv.bias'):
            query, _, key = value.chunk(3)
            layer = name.removesuffix('qkv.bias')
            split |= {f'{layer}q_bias': query, f'{layer}v_bias': key}
        else:
            split[name] = value
    return split
