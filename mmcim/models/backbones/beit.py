# Copyright (c) mmcim contributors. All rights reserved.
"""The BEiT-type encoder: a vision transformer with an optional mask.

Parameters have the names and shapes of mmpretrain's ``BEiTViT``, and with the same
weights the outputs are the same. Unlike mmpretrain's, attention does not materialise the
N x N scores of each head, the feed-forward branch is dropped once per layer, not twice,
``attn_drop_rate`` takes effect, images may have any size, and frozen stages stay in
evaluation mode.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN, PatchEmbed
from mmengine.utils import to_2tuple
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import build_norm_layer, resize_pos_embed
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...checkpoints.layout import Grid
from ...checkpoints.resize import resize_relative_position_table


def relative_position_index(grid: Grid, device: torch.device | None = None) -> Tensor:
    """Rows of a relative position bias table for each pair of tokens.

    Args:
        grid: Rows and columns of patches, (h, w).
        device: Defaults to torch's default device.

    Returns:
        int64, (1 + h * w, 1 + h * w), for queries and keys. The class token comes
        first; its three rows are the table's last: to patches, from patches, to itself.
    """
    h, w = grid
    down, right = (torch.arange(side, device=device) for side in grid)
    down = down[:, None] - down + h - 1  # (h, h), from 0 to 2h - 2
    right = right[:, None] - right + w - 1  # (w, w)
    patches = down[:, None, :, None] * (2 * w - 1) + right[None, :, None, :]
    patches = patches.reshape(h * w, h * w)  # (h, w, h, w) -> (h * w, h * w)
    last = (2 * h - 1) * (2 * w - 1) + 2
    index = F.pad(patches, (1, 0, 1, 0), value=last)
    index[0, 1:] = last - 2
    index[1:, 0] = last - 1
    return index


def relative_position_bias(module: nn.Module, grid: Grid) -> Tensor:
    """Look up the bias of each pair of tokens.

    Args:
        module: Owner of a ``relative_position_bias_table`` made for
            ``window_size`` patches, and of its ``relative_position_index``.
        grid: Rows and columns of patches, (h, w). The table is
            interpolated where it is made for another grid.

    Returns:
        (num_heads, 1 + h * w, 1 + h * w), contiguous: with the heads as the last
        stride no fused CUDA kernel takes it, and attention falls back to fp32.
    """
    table, index = module.relative_position_bias_table, module.relative_position_index
    if grid != module.window_size:
        table = resize_relative_position_table(table, module.window_size, grid)
        index = relative_position_index(grid, table.device)
    return table[index].permute(2, 0, 1).contiguous()  # (N, N, heads) -> (heads, N, N)


def _add_table(module: nn.Module, grid: Grid, num_heads: int) -> None:
    """Give a module what :func:`relative_position_bias` reads."""
    module.window_size = grid
    rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
    module.relative_position_bias_table = nn.Parameter(torch.zeros(rows, num_heads))
    module.register_buffer('relative_position_index', relative_position_index(grid))


class RelativePositionBias(nn.Module):
    """The relative position bias table that all layers share.

    Args:
        grid: Rows and columns of patches that it is made for.
        num_heads: Number of attention heads.
    """

    def __init__(self, grid: Grid, num_heads: int) -> None:
        super().__init__()
        _add_table(self, grid, num_heads)


class BEiTAttention(nn.Module):
    """Multi-head self-attention with a bias for each pair of tokens.

    Args:
        embed_dims: Number of channels.
        num_heads: Number of attention heads.
        grid: Rows and columns of patches that its own relative position bias table is
            made for. None for no table.
        bias: 'qv_bias' adds a bias to queries and values, True to keys as well.
        attn_drop_rate: Dropout of attention weights.
        drop_rate: Dropout of the output.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        grid: Grid | None,
        bias: str | bool,
        attn_drop_rate: float,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.bias = bias
        if bias == 'qv_bias':
            self.q_bias = nn.Parameter(torch.zeros(embed_dims))
            self.v_bias = nn.Parameter(torch.zeros(embed_dims))
        self.use_rel_pos_bias = grid is not None
        if grid is not None:
            _add_table(self, grid, num_heads)
        self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=bias is True)
        self.attn_drop = nn.Dropout(attn_drop_rate)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, rel_pos_bias: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Tokens, (B, N, C).
            rel_pos_bias: Added to the scores, (num_heads, N, N).

        Returns:
            Of the shape of ``x``.
        """
        bias = self.qkv.bias
        if self.bias == 'qv_bias':
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias)  # (B, N, 3 * C)
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))  # (B, N, 3, heads, C / heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, C / heads)
        if rel_pos_bias is not None:
            rel_pos_bias = rel_pos_bias.to(q.dtype)
        dropout = self.attn_drop.p if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, rel_pos_bias, dropout)
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))  # (B, N, C)


class BEiTLayer(nn.Module):
    """Attention and feed-forward branch, scaled per channel and dropped per image.

    Args:
        embed_dims: Number of channels.
        num_heads: Number of attention heads.
        feedforward_channels: Number of channels inside the feed-forward branch.
        grid: See :class:`BEiTAttention`.
        bias: See :class:`BEiTAttention`.
        layer_scale_init_value: Initial scale of both branches; 0 for no scale.
        drop_rate: Dropout of what both branches compute.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Probability of dropping a branch.
        norm_cfg: Config of the layer norms.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        feedforward_channels: int,
        grid: Grid | None,
        bias: str | bool,
        layer_scale_init_value: float,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        self.gamma_1 = self.gamma_2 = None
        if layer_scale_init_value > 0:
            scale = torch.full((embed_dims,), float(layer_scale_init_value))
            self.gamma_1, self.gamma_2 = nn.Parameter(scale), nn.Parameter(scale.clone())
        self.ln1 = build_norm_layer(norm_cfg, embed_dims)
        self.attn = BEiTAttention(
            embed_dims, num_heads, grid, bias, attn_drop_rate, drop_rate
        )
        self.ln2 = build_norm_layer(norm_cfg, embed_dims)
        self.ffn = FFN(
            embed_dims,
            feedforward_channels,
            act_cfg=dict(type='GELU'),
            ffn_drop=drop_rate,
            add_identity=False,  # the layer adds and drops the branch
        )
        self.drop_path = DropPath(float(drop_path_rate))

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
        # Looked up here, not by the encoder, so that activation checkpointing does not
        # keep the bias of each layer.
        if self.attn.use_rel_pos_bias:
            bias = relative_position_bias(self.attn, grid or self.attn.window_size)
        x = x + self.drop_path(_scaled(self.attn(self.ln1(x), bias), self.gamma_1))
        return x + self.drop_path(_scaled(self.ffn(self.ln2(x)), self.gamma_2))


def _scaled(branch: Tensor, scale: Tensor | None) -> Tensor:
    return branch if scale is None else scale * branch


class BEiTEncoder(BaseBackbone):
    """A BEiT-type vision transformer for images of any size.

    Position embeddings and relative position bias tables are interpolated for the grid of
    patches as they would be for a model made for that size; at ``img_size`` they are used
    as they are.

    Args:
        arch: A name in :attr:`arch_zoo`, or a dict of ``embed_dims``, ``num_layers``,
            ``num_heads`` and ``feedforward_channels``. Defaults to 'base'.
        img_size: Height and width in pixels that positions are made for. Defaults to
            224.
        patch_size: Defaults to 16.
        in_channels: Defaults to 3.
        out_indices: Layers whose outputs are returned; negative ones count from the end.
            Defaults to -1, the last one.
        drop_rate: Dropout of embeddings and of both branches. Defaults to 0.
        attn_drop_rate: Dropout of attention weights. Defaults to 0.
        drop_path_rate: Probability of dropping a branch of the last layer; it rises
            linearly from 0 in the first. Defaults to 0.
        bias: 'qv_bias' adds a bias to queries and values, True to keys as well.
            Defaults to 'qv_bias'.
        norm_cfg: Config of all layer norms. Defaults to an epsilon of 1e-6.
        final_norm: Whether to normalise the last tokens. Defaults to False.
        out_type: What is returned of each layer ``out_indices``: 'raw', all tokens
            (B, 1 + h * w, C); 'cls_token', (B, C); 'featmap', (B, C, h, w); or
            'avg_featmap', the normalised mean of the patches, (B, C). Defaults to
            'avg_featmap'.
        frozen_stages: Number of layers to freeze, from the first. What comes before them
            and a shared relative position bias table are frozen with them: they neither
            learn nor drop anything. Defaults to -1, none.
        use_abs_pos_emb: Whether to add a position embedding. Defaults to False.
        use_rel_pos_bias: Whether each layer has its own relative position bias table.
            Defaults to True.
        use_shared_rel_pos_bias: Whether all layers share one. Defaults to False.
        interpolate_mode: Interpolation of the position embedding. Defaults to 'bicubic'.
        layer_scale_init_value: Initial scale of the branches; 0 for no scale. Defaults to
            0.1.
        patch_cfg: More arguments of mmcv's ``PatchEmbed``. Defaults to none.
        layer_cfgs: Arguments of :class:`BEiTLayer` to override, one dict for all layers
            or one for each. Defaults to none.
        checkpoint: Whether training recomputes each layer in the backward pass instead of
            storing its activations. Defaults to False.
        init_cfg: Defaults to None.

    Raises:
        ValueError: If ``arch``, ``out_type`` or ``out_indices`` do not exist, or if both
            kinds of relative position bias are requested.
    """

    OUT_TYPES = BEiTViT.OUT_TYPES
    arch_zoo = BEiTViT.arch_zoo
    get_layer_depth = BEiTViT.get_layer_depth
    num_extra_tokens = 1  # the class token
    with_mask_token = False

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        bias: str | bool = 'qv_bias',
        norm_cfg: dict = dict(type='LN', eps=1e-6),  # noqa: B006
        final_norm: bool = False,
        out_type: str = 'avg_featmap',
        frozen_stages: int = -1,
        use_abs_pos_emb: bool = False,
        use_rel_pos_bias: bool = True,
        use_shared_rel_pos_bias: bool = False,
        interpolate_mode: str = 'bicubic',
        layer_scale_init_value: float = 0.1,
        patch_cfg: dict = dict(),  # noqa: B006
        layer_cfgs: dict | Sequence[dict] = dict(),  # noqa: B006
        checkpoint: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if use_rel_pos_bias and use_shared_rel_pos_bias:
            raise ValueError('use_rel_pos_bias excludes use_shared_rel_pos_bias')
        if out_type not in self.OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} is none of {sorted(self.OUT_TYPES)}')
        self.arch_settings = self._find_arch(arch)
        sizes = dict(self.arch_settings)
        self.num_layers = sizes.pop('num_layers')
        self.embed_dims = sizes['embed_dims']
        self.img_size = to_2tuple(img_size)
        self.out_type = out_type
        self.out_indices = self._layer_numbers(out_indices)
        self.final_norm = final_norm
        self.frozen_stages = frozen_stages
        self.use_rel_pos_bias = use_rel_pos_bias
        self.interpolate_mode = interpolate_mode
        self.checkpoint = checkpoint
        patches = dict(kernel_size=patch_size, stride=patch_size, input_size=img_size)
        patches = {**patches, 'in_channels': in_channels, **patch_cfg}
        self._add_embeddings(patches, use_abs_pos_emb, drop_rate)
        grid = self.patch_resolution
        self.rel_pos_bias = None
        if use_shared_rel_pos_bias:
            self.rel_pos_bias = RelativePositionBias(grid, sizes['num_heads'])
        layer = dict(sizes, grid=grid if use_rel_pos_bias else None, norm_cfg=norm_cfg)
        layer.update(drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, bias=bias)
        layer.update(layer_scale_init_value=layer_scale_init_value)
        self._add_layers(layer, layer_cfgs, drop_path_rate)
        if final_norm:
            self.ln1 = build_norm_layer(norm_cfg, self.embed_dims)
        if out_type == 'avg_featmap':
            self.ln2 = build_norm_layer(norm_cfg, self.embed_dims)
        self._freeze()

    def _find_arch(self, arch: str | dict) -> dict:
        """Look up a name; a dict stays as it is."""
        if isinstance(arch, str) and arch not in self.arch_zoo:
            raise ValueError(f'arch={arch!r} is none of {sorted(self.arch_zoo)}')
        return self.arch_zoo[arch] if isinstance(arch, str) else arch

    def _layer_numbers(self, indices: int | Sequence[int]) -> list[int]:
        """Turn negative indices into layer numbers."""
        indices = [indices] if isinstance(indices, int) else indices
        if not all(-self.num_layers <= i < self.num_layers for i in indices):
            raise ValueError(f'out_indices={indices}, but num_layers={self.num_layers}')
        return [i % self.num_layers for i in indices]

    def _add_embeddings(
        self, patches: dict, use_abs_pos_emb: bool, drop_rate: float
    ) -> None:
        """Make what turns patches into tokens."""
        width = self.embed_dims
        self.patch_embed = PatchEmbed(embed_dims=width, **patches)
        self.patch_resolution = self.patch_embed.init_out_size
        self.drop_after_pos = nn.Dropout(drop_rate)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = self.mask_token = None
        if use_abs_pos_emb:
            count = self.num_extra_tokens + math.prod(self.patch_resolution)
            self.pos_embed = nn.Parameter(torch.zeros(1, count, width))
        if self.with_mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, width))

    def _add_layers(
        self, args: dict, layer_cfgs: dict | Sequence[dict], drop_path_rate: float
    ) -> None:
        """Make the layers; the rate of dropping a branch rises linearly from 0."""
        count = self.num_layers
        cfgs = [layer_cfgs] * count if isinstance(layer_cfgs, dict) else layer_cfgs
        # Python floats: NumPy scalars break the graph of torch.compile.
        rates = [float(drop_path_rate) * i / max(count - 1, 1) for i in range(count)]
        self.layers = nn.ModuleList(
            BEiTLayer(**{**args, 'drop_path_rate': rate, **cfg})
            for rate, cfg in zip(rates, cfgs, strict=True)
        )

    def _tokens(self) -> list[nn.Parameter]:
        tokens = self.cls_token, self.pos_embed, self.mask_token
        return [token for token in tokens if token is not None]

    def _frozen_modules(self) -> list[nn.Module]:
        """Modules of the frozen stages; tokens and position embedding not included."""
        if self.frozen_stages <= 0:
            return []
        # The frozen layers use the shared table, too.
        modules = [self.patch_embed, self.drop_after_pos, self.rel_pos_bias]
        modules += self.layers[: self.frozen_stages]
        if self.frozen_stages >= self.num_layers:
            modules += [getattr(self, name, None) for name in ('ln1', 'ln2')]
        return [module for module in modules if module is not None]

    def _freeze(self) -> None:
        frozen = self._frozen_modules()
        for part in [*frozen, *self._tokens()] if frozen else []:
            part.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> 'BEiTEncoder':
        """Set the mode of all but the frozen stages, which stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Initialise as the released code of BEiT and ConMIM does.

        Weights, tokens and position embedding: normal distribution of std 0.02, truncated
        at one sigma. Biases and relative position bias tables: 0. The last weight of each
        residual branch of layer l = 1, 2, ... is divided by sqrt(2 l).
        """
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained':
            return
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                _truncated_normal(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for token in self._tokens():
            _truncated_normal(token)
        for depth, layer in enumerate(self.layers, start=1):
            layer.attn.proj.weight.data.div_(math.sqrt(2 * depth))
            layer.ffn.layers[1].weight.data.div_(math.sqrt(2 * depth))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Encode.

        Args:
            x: Normalised images, (B, 3, H, W).
            mask: bool, (B, h, w); where it is True, the mask token replaces the patch
                embedding. Defaults to None, which masks nothing.

        Returns:
            The features of ``out_type`` after each of the layers ``out_indices``; with a
            mask always all tokens, (B, 1 + h * w, C).

        Raises:
            ValueError: If there is a mask but no mask token, or if the mask's size is not
                that of the grid of patches.
        """
        x, grid = self.patch_embed(x)  # (B, 3, H, W) -> (B, h * w, C)
        grid = tuple(map(int, grid))  # while torch.jit traces, they are tensors
        if mask is not None:
            x = self._mask(x, mask, grid)
        cls_token = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat((cls_token, x), dim=1)  # (B, 1 + h * w, C)
        if self.pos_embed is not None:
            x = x + resize_pos_embed(
                self.pos_embed, self.patch_resolution, grid, self.interpolate_mode
            )
        x = self.drop_after_pos(x)

        shared = None
        if self.rel_pos_bias is not None:
            shared = relative_position_bias(self.rel_pos_bias, grid)
        out_type = self.out_type if mask is None else 'raw'
        outs = []
        for i, layer in enumerate(self.layers):
            if self.checkpoint and self.training:
                x = torch.utils.checkpoint.checkpoint(
                    layer, x, shared, grid, use_reentrant=False
                )
            else:
                x = layer(x, shared, grid)
            if i == self.num_layers - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(self._format(x, grid, out_type))
        return tuple(outs)

    def _mask(self, x: Tensor, mask: Tensor, grid: Grid) -> Tensor:
        """Put the mask token in the place of masked patches, (B, h * w, C)."""
        if self.mask_token is None:
            raise ValueError(f'{type(self).__name__} has no mask token')
        if tuple(mask.shape[1:]) != grid:
            raise ValueError(
                f'a mask of {tuple(mask.shape[1:])} patches came with images of {grid} '
                'patches; set img_size of the backbone, or the size of the '
                "pipeline's crops"
            )
        return torch.where(mask.flatten(1)[..., None], self.mask_token, x)

    def _format(self, x: Tensor, grid: Grid, out_type: str) -> Tensor:
        if out_type == 'raw':
            return x
        if out_type == 'cls_token':
            return x[:, 0]
        patches = x[:, self.num_extra_tokens :]
        if out_type == 'avg_featmap':
            return self.ln2(patches.mean(dim=1))
        return patches.unflatten(1, grid).permute(0, 3, 1, 2)  # (B, C, h, w)


def _truncated_normal(tensor: Tensor, std: float = 0.02) -> None:
    # a and b are absolute: the defaults, -2 and 2, would truncate nothing.
    nn.init.trunc_normal_(tensor, std=std, a=-std, b=std)


@MODELS.register_module()
class FusedBEiTViT(BEiTEncoder):
    """The encoder without a mask token, for use after pre-training.

    See :class:`BEiTEncoder` for the arguments.
    """


@MODELS.register_module()
class FusedBEiTPretrainViT(BEiTEncoder):
    """The encoder with a mask token, for pre-training.

    Apart from the mask token it has the tensors, and without a mask the features, of a
    :class:`FusedBEiTViT` with the same arguments.

    Args:
        final_norm: Whether to normalise the last tokens. Defaults to True.
        out_type: What is returned without a mask. Defaults to 'raw'.
        use_rel_pos_bias: Whether each layer has its own relative position bias table.
            Defaults to False.
        use_shared_rel_pos_bias: Whether all layers share one. Defaults to True.
        patch_cfg: More arguments of mmcv's ``PatchEmbed``. Defaults to no padding:
            incomplete patches at the border are left out.
        **kwargs: The other arguments of :class:`BEiTEncoder`.
    """

    with_mask_token = True

    def __init__(
        self,
        *,
        final_norm: bool = True,
        out_type: str = 'raw',
        use_rel_pos_bias: bool = False,
        use_shared_rel_pos_bias: bool = True,
        patch_cfg: dict = dict(padding=0),  # noqa: B006
        **kwargs,
    ) -> None:
        super().__init__(
            final_norm=final_norm,
            out_type=out_type,
            use_rel_pos_bias=use_rel_pos_bias,
            use_shared_rel_pos_bias=use_shared_rel_pos_bias,
            patch_cfg=patch_cfg,
            **kwargs,
        )
