# Copyright (c) mmcim contributors. All rights reserved.
"""Correlational Image Modeling (arXiv 2303.12670)."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ...utils.errors import ConfigError
from .base import MomentumSupervisor


@MODELS.register_module()
class CorrIM(MomentumSupervisor):
    """Correlational Image Modeling: find where in an image its crops come from.

    An online encoder sees the exemplars, which are colour-jittered crops of random size,
    shape and rotation; a momentum encoder, the bootstrap target, sees the whole image,
    the context. One block of cross-attention correlates the two, and for each exemplar
    every pixel of the context is classified as inside or outside.

    Both encoders share the class token and the position embedding, as released.
    :class:`MomentumUpdateHook` moves the momentum encoder once per optimizer step, as
    released.

    Args:
        backbone: The online encoder, which is exported. It outputs all its tokens
            (``out_type='raw'``) or a feature map, so that a CNN works as well. Fixed
            position embeddings and a frozen patch projection are arguments of the
            backbone: ``type='FixedPositionViT', stop_grad_conv1=True``.
        neck: :class:`CorrelationDecoder`.
        head: :class:`CorrelationHead`. Defaults to its defaults.
        initial_weights: ``'released'``, see :meth:`init_weights`; or ``'mocov3'``, what
            encoder, decoder and head start with by themselves: an encoder of the type
            above with queries, keys and values each of their own Xavier range, and a
            head of small weights, whose loss starts at log 2 per exemplar.
        **kwargs: See :class:`MomentumSupervisor`.

    Raises:
        ValueError: If context or exemplars cannot be divided into patches, or
            ``initial_weights`` is something else.
    """

    preprocessor = 'CorrIMDataPreprocessor'
    followed = ('backbone',)
    backbone_prefix = 'backbone.'
    """Prefix of the exported backbone's tensors."""

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict = dict(type='CorrelationHead'),  # noqa: B006
        initial_weights: str = 'released',
        **kwargs,
    ) -> None:
        super().__init__(backbone, neck, head, **kwargs)
        if initial_weights not in ('released', 'mocov3'):
            raise ValueError(f"{initial_weights=} must be 'released' or 'mocov3'")
        self.initial_weights = initial_weights
        self._check_patches()
        for name in ('cls_token', 'pos_embed'):
            shared = getattr(self.backbone, name, None)
            if isinstance(shared, nn.Parameter):
                setattr(self.momentum_encoder.backbone, name, shared)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Initialise, with the released distributions if asked for.

        All linear layers of a ViT are Xavier uniform, also the one matrix of queries,
        keys and values, and its class token has a standard deviation of 0.02; in the
        decoder's attention queries are one matrix, keys and values another; and the
        head's weights have a standard deviation of 1, which starts with a loss of tens.
        Pre-trained encoders stay as they are.
        """
        super().init_weights()
        if self.initial_weights != 'released':
            return
        pretrained = 'Pretrained' in str(self.backbone.init_cfg)
        if isinstance(self.backbone, VisionTransformer) and not pretrained:
            for module in self.backbone.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
            nn.init.normal_(self.backbone.cls_token, std=0.02)
        attention, dims = self.neck.attn.in_proj_weight, self.neck.attn.embed_dim
        nn.init.xavier_uniform_(attention[:dims])
        nn.init.xavier_uniform_(attention[dims:])
        nn.init.normal_(self.head.conv.weight, std=1.0)
        self.momentum_encoder.copy_from(self)

    def _check_patches(self) -> None:
        """Partial patches would be padded and shift the segmentation maps."""
        inputs = self.data_preprocessor
        if not hasattr(self.backbone, 'patch_embed') or not hasattr(inputs, 'exemplars'):
            return
        patch = self.backbone.patch_embed.projection.stride[0]
        if any(side % patch for side in (*inputs.context_size, inputs.exemplars.size)):
            raise ValueError(
                'context_size and exemplars.size of model.data_preprocessor must be '
                f"multiples of the backbone's patch_size={patch}"
            )

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Embed, correlate, compare.

        Args:
            inputs: ``context`` (B, 3, H, W) and ``exemplars`` (B, E, 3, s, s),
                normalised; ``regions``, bool, (B, E, H, W), True where the exemplar is.
            data_samples: Unused.

        Returns:
            ``loss_corr``; to watch, all in [0, 1]: ``iou`` of the pixels predicted inside
            with the true region, averaged over the exemplars; ``pixel_acc``; and
            ``pixel_base_acc``, the accuracy of the better of the answers 'all inside'
            and 'all outside'.
        """
        regions = inputs['regions']
        logits = self.predict(inputs)

        found = logits.detach().argmax(dim=2).bool()  # (B, E, H, W)
        union = (found | regions).sum(dim=(-2, -1)).clamp(min=1)  # (B, E)
        fraction = regions.float().mean()
        return dict(
            loss_corr=self.head.loss(logits, regions),
            iou=((found & regions).sum(dim=(-2, -1)) / union).mean(),
            pixel_acc=(found == regions).float().mean(),
            pixel_base_acc=torch.maximum(fraction, 1 - fraction),
        )

    def predict(self, inputs: dict) -> Tensor:
        """Embed and correlate; see :meth:`loss` for the argument.

        Returns:
            Logits of outside and inside, float32, (B, E, 2, H, W).
        """
        context, exemplars = inputs['context'], inputs['exemplars']
        # embed
        with torch.no_grad():
            targets = _tokens(self.momentum_encoder.backbone(context))  # (B, N, C)
        crops = _tokens(self.backbone(exemplars.flatten(0, 1)))  # (B * E, M, C)
        crops = crops.unflatten(0, exemplars.shape[:2])  # (B, E, M, C)
        # correlate
        maps = self.neck(targets, crops)  # (B, E, D, h, w)
        return self.head(maps, context.shape[-2:])


def _tokens(features: tuple[Tensor]) -> Tensor:
    """The last feature map (B, C, h, w), or all tokens, as tokens (B, N, C)."""
    last = features[-1]
    return last.flatten(2).transpose(1, 2) if last.ndim == 4 else last


@MODELS.register_module()
class CorrelationDecoder(BaseModule):
    """Correlate contexts with exemplars by cross-attention (sec. 3.3).

    One pre-norm block in which the tokens of the context are the queries and those of an
    exemplar are keys and values. Only the context's tokens have position embeddings,
    fixed sines and cosines of the column, then of the row, as released; they are saved.

    Args:
        in_channels: Width of the encoders C.
        grid: Rows h and columns w of the context's tokens.
        embed_dims: Width of the block D.
        num_heads: Heads of its attention.
        init_cfg: Defaults to Xavier's uniform initialisation of linear layers.
    """

    def __init__(
        self,
        in_channels: int,
        grid: tuple[int, int] = (10, 10),
        embed_dims: int = 512,
        num_heads: int = 16,
        init_cfg: dict | None = dict(  # noqa: B006
            type='Xavier', layer='Linear', distribution='uniform'
        ),
    ) -> None:
        super().__init__(init_cfg)
        self.grid = tuple(grid)
        self.proj = nn.Linear(in_channels, embed_dims)
        # mmpretrain's function runs through columns first; ours are the rows.
        positions = build_2d_sincos_position_embedding(self.grid[::-1], embed_dims)
        rows, columns = positions.chunk(2, dim=-1)
        self.register_buffer('positions', torch.cat([columns, rows], dim=-1))
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, 4 * embed_dims),
            nn.GELU(),
            nn.Linear(4 * embed_dims, embed_dims),
        )
        self.norm3 = nn.LayerNorm(embed_dims, eps=1e-6)

    def forward(self, context: Tensor, exemplars: Tensor) -> Tensor:
        """Correlate each exemplar with the context that it is from.

        Args:
            context: (B, N, C); the last h * w tokens are the patches, row by row, any
                before them, such as a class token, are dropped in the end.
            exemplars: (B, E, M, C).

        Returns:
            A map per exemplar, (B, E, D, h, w).

        Raises:
            ConfigError: If the context has fewer than h * w tokens, or more than one
                besides.
        """
        batch_size, num = exemplars.shape[:2]
        rows, columns = self.grid
        num_extra = context.size(1) - rows * columns
        if context.ndim != 3 or num_extra not in (0, 1):
            raise ConfigError(
                f'the context has shape {tuple(context.shape)}: set model.neck.grid, now '
                f"{self.grid}, to its rows and columns of patches, or out_type='raw'"
            )
        context = self.proj(context)  # (B, N, D)
        extra, patches = context.split([num_extra, rows * columns], dim=1)
        context = torch.cat([extra, patches + self.positions], dim=1)
        # Each image's context once for each of its exemplars.
        x = context.repeat_interleave(num, dim=0)  # (B * E, N, D)
        queries = self.norm1(context).repeat_interleave(num, dim=0)
        keys = self.norm1(self.proj(exemplars)).flatten(0, 1)  # (B * E, M, D)

        x = x + self.attn(queries, keys, keys, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        x = self.norm3(x)[:, num_extra:]  # (B * E, h * w, D)
        return x.transpose(1, 2).reshape(batch_size, num, -1, rows, columns)


@MODELS.register_module()
class CorrelationHead(BaseModule):
    """Classify each pixel of the context as inside or outside of the exemplar.

    The mean over pixels and images of each exemplar's loss, summed over the exemplars
    (sec. 3.3). With p the probability that a pixel is inside and y, 1 or 0, whether it
    is:

    - ``'cross_entropy'``: ``-log p`` inside and ``-log (1 - p)`` outside;
    - ``'focal_mse'``: ``|y - p| ** 2 * (y - p) ** 2``. The released code is known
      to have one; its weight is a choice.

    Args:
        in_channels: Width D of the decoder.
        objective: One of the two.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If ``objective`` is something else.
    """

    OBJECTIVES = ('cross_entropy', 'focal_mse')

    def __init__(
        self,
        in_channels: int = 512,
        objective: str = 'cross_entropy',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if objective not in self.OBJECTIVES:
            raise ValueError(f'objective={objective!r} is none of {self.OBJECTIVES}')
        self.objective = objective
        self.conv = nn.Conv2d(in_channels, 2, kernel_size=1)

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute logits for each pixel.

        Args:
            maps: A map per exemplar, (B, E, D, h, w).
            size: Height H and width W of the context in pixels.

        Returns:
            Logits of outside and inside, float32, (B, E, 2, H, W).
        """
        logits = self.conv(maps.flatten(0, 1)).float()  # (B * E, 2, h, w)
        logits = F.interpolate(logits, size, mode='bilinear', align_corners=True)
        return logits.unflatten(0, maps.shape[:2])

    def loss(self, logits: Tensor, regions: Tensor) -> Tensor:
        """Compare.

        Args:
            logits: (B, E, 2, H, W).
            regions: bool, (B, E, H, W); True is inside.

        Returns:
            Scalar.
        """
        # The softmax of two classes is the sigmoid of their difference; in this form one
        # map is kept instead of two, and sums on GPUs come in a fixed order.
        inside, target = logits[:, :, 1] - logits[:, :, 0], regions.float()
        if self.objective == 'cross_entropy':
            mean = F.binary_cross_entropy_with_logits(inside, target)
        else:
            mean = ((target - inside.sigmoid()) ** 4).mean()
        # All exemplars have the same number of pixels.
        return regions.size(1) * mean
