# Copyright (c) mmcim contributors. All rights reserved.
"""The BEiT-type encoder: a vision transformer with an optional mask.

Parameters have the names and shapes of mmpretrain's ``BEiTViT``, and with the same
weights the outputs are the same. Unlike mmpretrain's, attention does not materialise the
N x N scores of each head, the feed-forward branch is dropped once per layer, not twice,
images may have any size, and frozen stages stay in evaluation mode.
"""

import math
from collections.abc import Sequence
from functools import partial, partialmethod
from typing import Any

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.utils import to_2tuple
from mmpretrain.models.backbones import BEiTViT, VisionTransformer
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import build_norm_layer, resize_pos_embed
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .beit_layers import BEiTLayer, RelativePositionBias, relative_position_bias


@MODELS.register_module()
class FusedBEiTViT(BaseBackbone):
    """A BEiT-type vision transformer for images of any size, without a mask token.

    Position embeddings and relative position bias tables are interpolated for the grid of
    patches as they would be for a model made for that size; at ``img_size`` they are used
    as they are.

    Args:
        arch: A name in :attr:`arch_zoo`, or a dict of ``embed_dims``, ``num_layers``,
            ``num_heads`` and ``feedforward_channels``.
        img_size: Height and width in pixels that position embeddings are made for.
        patch_size: Height and width of a patch in pixels.
        in_channels: Number of the images' channels.
        out_indices: Layers whose outputs are returned; negative ones count from the end.
        drop_rate: Dropout of embeddings and of both branches.
        drop_path_rate: Probability of dropping a branch of the last layer; it rises
            linearly from 0 in the first.
        norm_cfg: Config of all layer norms.
        final_norm: Whether to normalise the last tokens.
        out_type: What is returned of each layer ``out_indices``: 'raw', all tokens
            (B, 1 + h * w, C); 'cls_token', (B, C); 'featmap', (B, C, h, w); or
            'avg_featmap', the normalised mean of the patches, (B, C).
        frozen_stages: Number of layers to freeze, from the first. What comes before them
            and a shared relative position bias table are frozen with them: they neither
            learn nor drop anything. -1 for none.
        use_abs_pos_emb: Whether to add a position embedding.
        use_rel_pos_bias: Whether each layer has its own relative position bias table.
        use_shared_rel_pos_bias: Whether all layers share one.
        layer_scale_init_value: Initial scale of the branches; 0 for no scale.
        patch_cfg: More arguments of mmcv's ``PatchEmbed``.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If ``arch``, ``out_type`` or ``out_indices`` do not exist, or if both
            kinds of relative position bias are requested.
    """

    OUT_TYPES = BEiTViT.OUT_TYPES
    arch_zoo = BEiTViT.arch_zoo
    get_layer_depth = BEiTViT.get_layer_depth
    _format_output = VisionTransformer._format_output
    num_extra_tokens = 1  # the class token
    with_mask_token = False
    layer_type = BEiTLayer

    def __init__(
        self,
        arch: str | dict = 'base',
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: dict = dict(type='LN', eps=1e-6),  # noqa: B006
        final_norm: bool = False,
        out_type: str = 'avg_featmap',
        frozen_stages: int = -1,
        use_abs_pos_emb: bool = False,
        use_rel_pos_bias: bool = True,
        use_shared_rel_pos_bias: bool = False,
        layer_scale_init_value: float = 0.1,
        patch_cfg: dict = dict(),  # noqa: B006
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if use_rel_pos_bias and use_shared_rel_pos_bias:
            raise ValueError('use_rel_pos_bias excludes use_shared_rel_pos_bias')
        if out_type not in self.OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} is none of {sorted(self.OUT_TYPES)}')
        sizes = _find_sizes(arch, self.arch_zoo)
        self.num_layers = sizes.pop('num_layers')
        self.embed_dims = sizes['embed_dims']
        self.img_size = to_2tuple(img_size)
        self.out_type = out_type
        self.out_indices = _layer_numbers(out_indices, self.num_layers)
        self.final_norm = final_norm
        self.frozen_stages = frozen_stages
        self.use_rel_pos_bias = use_rel_pos_bias
        patches = dict(kernel_size=patch_size, stride=patch_size, input_size=img_size)
        patches = {**patches, 'in_channels': in_channels, **patch_cfg}
        self._add_embeddings(patches, use_abs_pos_emb, drop_rate)
        grid = self.patch_resolution
        self.rel_pos_bias = None
        if use_shared_rel_pos_bias:
            self.rel_pos_bias = RelativePositionBias(grid, sizes['num_heads'])
        own = grid if use_rel_pos_bias else None
        layer = dict(sizes, window_size=own, norm_cfg=norm_cfg)
        layer.update(layer_scale_init_value=layer_scale_init_value, drop_rate=drop_rate)
        # Python floats: NumPy scalars break the graph of torch.compile.
        last = max(self.num_layers - 1, 1)
        self.layers = nn.ModuleList(
            self.layer_type(**layer, drop_path_rate=drop_path_rate * i / last)
            for i in range(self.num_layers)
        )
        norm = partial(build_norm_layer, norm_cfg, self.embed_dims)
        self.ln1: Any = norm() if final_norm else None
        self.ln2: Any = norm() if out_type == 'avg_featmap' else None
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train()

    def _add_embeddings(self, patches: dict, absolute: bool, drop_rate: float) -> None:
        """Make what turns patches into tokens."""
        width = self.embed_dims
        self.patch_embed = PatchEmbed(embed_dims=width, **patches)
        self.patch_resolution = self.patch_embed.init_out_size
        self.drop_after_pos = nn.Dropout(drop_rate)
        self.cls_token: nn.Parameter | None = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = self.mask_token = None
        if absolute:
            count = self.num_extra_tokens + math.prod(self.patch_resolution)
            self.pos_embed = nn.Parameter(torch.zeros(1, count, width))
        if self.with_mask_token:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, width))

    def _tokens(self) -> list[nn.Parameter]:
        tokens = self.cls_token, self.pos_embed, self.mask_token
        return [token for token in tokens if token is not None]

    def _frozen_parts(self) -> list[nn.Module | nn.Parameter]:
        """Modules and tokens of the frozen stages."""
        if self.frozen_stages <= 0:
            return []
        # The frozen layers use the shared table, too.
        parts = [*self._tokens(), self.patch_embed, self.drop_after_pos]
        parts += [self.rel_pos_bias, *self.layers[: self.frozen_stages]]
        if self.frozen_stages >= self.num_layers:
            parts += [self.ln1, self.ln2]
        return [part for part in parts if part is not None]

    def train(self, mode: bool = True) -> 'FusedBEiTViT':
        """Set the mode of all but the frozen stages, which stay in evaluation mode."""
        super().train(mode)
        for part in self._frozen_parts():
            if isinstance(part, nn.Module):
                part.eval()
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
        self.apply(_initialise)
        for token in self._tokens():
            _truncated_normal(token)
        for depth, layer in enumerate(self.layers, start=1):
            for name in ('attn.proj.weight', 'ffn.layers.1.weight'):
                layer.get_parameter(name).data.div_(math.sqrt(2 * depth))

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
            if self.mask_token is None:
                raise ValueError(
                    'a FusedBEiTViT has no mask token, a FusedBEiTPretrainViT has'
                )
            if tuple(mask.shape[1:]) != grid:
                raise ValueError(
                    f'a mask of {tuple(mask.shape[1:])} patches came with images of '
                    f'{grid}; set img_size of the backbone, or the size of the crops'
                )
            x = torch.where(mask.flatten(1)[..., None], self.mask_token, x)
        if self.cls_token is not None:
            cls_token = self.cls_token.expand(x.shape[0], -1, -1)
            x = torch.cat((cls_token, x), dim=1)  # (B, 1 + h * w, C)
        if self.pos_embed is not None:
            extra = dict(num_extra_tokens=self.num_extra_tokens)
            x = x + resize_pos_embed(self.pos_embed, self.patch_resolution, grid, **extra)
        x = self.drop_after_pos(x)
        shared = None
        if self.rel_pos_bias is not None:
            shared = relative_position_bias(self.rel_pos_bias, grid)
        outs = []
        for i, layer in enumerate(self.layers):
            x = layer(x, shared, grid)
            if i == self.num_layers - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(x if mask is not None else self._format_output(x, grid))
        return tuple(outs)


def _find_sizes(arch: str | dict, zoo: dict[str, dict]) -> dict:
    """Look up a name; a dict stays as it is."""
    if isinstance(arch, str) and arch not in zoo:
        raise ValueError(f'arch={arch!r} is none of {sorted(zoo)}')
    return dict(zoo[arch] if isinstance(arch, str) else arch)


def _layer_numbers(indices: int | Sequence[int], num_layers: int) -> list[int]:
    """Turn negative indices into layer numbers."""
    indices = [indices] if isinstance(indices, int) else indices
    if not all(-num_layers <= i < num_layers for i in indices):
        raise ValueError(f'out_indices={indices}, but num_layers={num_layers}')
    return [i % num_layers for i in indices]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        _truncated_normal(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _truncated_normal(tensor: Tensor, std: float = 0.02) -> None:
    # a and b are absolute: the defaults, -2 and 2, would truncate nothing.
    nn.init.trunc_normal_(tensor, std=std, a=-std, b=std)


@MODELS.register_module()
class FusedBEiTPretrainViT(FusedBEiTViT):
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
        **kwargs: The other arguments of :class:`FusedBEiTViT`.
    """

    with_mask_token = True

    __init__ = partialmethod(
        FusedBEiTViT.__init__,
        final_norm=True,
        out_type='raw',
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        patch_cfg=dict(padding=0),
    )
