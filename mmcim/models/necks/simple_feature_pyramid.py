# Copyright (c) mmcim contributors. All rights reserved.
"""ViTDet's feature pyramid (Li et al., arXiv 2203.16527, section 3)."""

from functools import partial

from mmpretrain.models.utils import build_norm_layer
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class SimpleFeaturePyramid(nn.Module):
    """Maps of strides 4 to 64 from the last map of a ViT with patches of 16 px.

    Deconvolutions of stride 2 make the larger ones, maximum pooling the smaller ones;
    each but the smallest then passes a convolution of 1 x 1 and one of 3 x 3.

    Args:
        in_channels: Number of the ViT's channels.
        norm_cfg: Config of all norms; ViTDet's are over the channels of a pixel.
        out_channels: Number of each map's channels.
    """

    def __init__(self, in_channels: int, norm_cfg: dict, out_channels: int = 256) -> None:
        super().__init__()
        half, quarter = in_channels // 2, in_channels // 4
        norm = partial(build_norm_layer, norm_cfg)
        enlarge = partial(nn.ConvTranspose2d, kernel_size=2, stride=2)
        larger = enlarge(in_channels, half), norm(half), nn.GELU(), enlarge(half, quarter)

        def project(*scale: nn.Module, width: int) -> nn.Sequential:
            return nn.Sequential(
                *scale,
                nn.Conv2d(width, out_channels, 1, bias=False),
                norm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                norm(out_channels),
            )

        self.stride_4 = project(*larger, width=quarter)
        self.stride_8 = project(enlarge(in_channels, half), width=half)
        self.stride_16 = project(width=in_channels)
        self.stride_32 = project(nn.MaxPool2d(2), width=in_channels)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Give five maps of one.

        Args:
            maps: The last is taken, (B, C, h, w).

        Returns:
            (B, out_channels, 4 * h, 4 * w) to (B, out_channels, h / 4, w / 4).
        """
        x = maps[-1]
        stride_32 = self.stride_32(x)
        stride_64 = F.max_pool2d(stride_32, kernel_size=1, stride=2)
        return self.stride_4(x), self.stride_8(x), self.stride_16(x), stride_32, stride_64
