# Copyright (c) mmcim contributors. All rights reserved.
import torch
from mmengine.model import BaseModule
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CorrelationDecoder(BaseModule):
    """Correlate contexts with exemplars by cross-attention (arXiv 2303.12670, sec. 3.3).

    One pre-norm block in which the tokens of the context ask and those of an exemplar
    answer: queries are the context's, keys and values the exemplar's. Only the context's
    tokens know their positions, by a fixed sin-cos embedding.

    Args:
        in_channels (int): Width of the encoders C.
        grid (tuple[int, int]): Rows h and columns w of the context's tokens. Defaults to
            (10, 10).
        embed_dims (int): Width of the block D. Defaults to 512.
        num_heads (int): Heads of its attention. Defaults to 16.
        mlp_ratio (int): Hidden width of its MLP over D. Defaults to 4.
        init_cfg (dict, optional): Defaults to Xavier's uniform law for linear layers.
    """

    def __init__(
        self,
        in_channels: int,
        grid: tuple[int, int] = (10, 10),
        embed_dims: int = 512,
        num_heads: int = 16,
        mlp_ratio: int = 4,
        init_cfg: dict | None = dict(  # noqa: B006
            type='Xavier', layer='Linear', distribution='uniform'
        ),
    ) -> None:
        super().__init__(init_cfg)
        self.grid = tuple(grid)
        self.proj = nn.Linear(in_channels, embed_dims)
        # mmpretrain's function runs through columns first; ours are the rows.
        positions = build_2d_sincos_position_embedding(self.grid[::-1], embed_dims)
        self.register_buffer('positions', positions, persistent=False)
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, mlp_ratio * embed_dims),
            nn.GELU(),
            nn.Linear(mlp_ratio * embed_dims, embed_dims),
        )
        self.norm3 = nn.LayerNorm(embed_dims, eps=1e-6)

    def forward(self, context: Tensor, exemplars: Tensor) -> Tensor:
        """Correlate each exemplar with the context that it is from.

        Args:
            context (Tensor): (B, N, C); the last h * w tokens are the patches, row by
                row, any before them, such as a class token, are dropped in the end.
            exemplars (Tensor): (B, E, M, C).

        Returns:
            Tensor: A map per exemplar, (B, E, D, h, w).

        Raises:
            ValueError: If the context has fewer than h * w tokens, or more than one
                besides.
        """
        batch_size, num = exemplars.shape[:2]
        rows, columns = self.grid
        num_extra = context.size(1) - rows * columns
        if num_extra not in (0, 1):
            raise ValueError(
                f'the context has {context.size(1)} tokens, which are not '
                f'{rows} x {columns} patches with or without a class token; set '
                'model.neck.grid to the rows and columns of its patches'
            )
        context = self.proj(context)
        extra, patches = context.split([num_extra, rows * columns], dim=1)
        context = torch.cat([extra, patches + self.positions], dim=1)
        # Each picture's context once for each of its exemplars.
        asking = context.repeat_interleave(num, dim=0)
        queries = self.norm1(context).repeat_interleave(num, dim=0)
        keys = self.norm1(self.proj(exemplars)).flatten(0, 1)

        x = asking + self.attn(queries, keys, keys, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        x = self.norm3(x)[:, num_extra:]
        return x.transpose(1, 2).reshape(batch_size, num, -1, rows, columns)
