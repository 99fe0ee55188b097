# Copyright (c) mmcim contributors. All rights reserved.
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CorrelationHead(BaseModule):
    """CorrIM's objective: tell each pixel of the context in or out of the exemplar.

    The mean over pixels and pictures of each exemplar's loss, summed over the exemplars
    (arXiv 2303.12670, sec. 3.3). With p the probability that a pixel is inside and y,
    1 or 0, whether it is:

    - ``'cross_entropy'``: ``-log p`` inside and ``-log (1 - p)`` outside;
    - ``'focal_mse'``: ``|y - p| ** gamma * (y - p) ** 2``. That the released code holds
      one is known, its weight is a choice.

    Args:
        in_channels (int): Width of the decoder. Defaults to 512.
        objective (str): One of the two. Defaults to 'cross_entropy'.
        gamma (float): Exponent of the focal weight of ``'focal_mse'``, at least 0.
            Defaults to 2.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        ValueError: If ``objective`` or ``gamma`` is something else.
    """

    def __init__(
        self,
        in_channels: int = 512,
        objective: str = 'cross_entropy',
        gamma: float = 2.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if objective not in ('cross_entropy', 'focal_mse'):
            raise ValueError(
                f"objective={objective!r} is neither 'cross_entropy' nor 'focal_mse'"
            )
        if gamma < 0:
            raise ValueError(f'gamma={gamma} must not be negative')
        self.objective = objective
        self.gamma = gamma
        self.conv = nn.Conv2d(in_channels, 2, kernel_size=1)

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Give logits for each pixel.

        Args:
            maps (Tensor): A map per exemplar, (B, E, D, h, w).
            size (tuple[int, int]): Height H and width W of the context in pixels.

        Returns:
            Tensor: Logits of outside and inside, float32, (B, E, 2, H, W).
        """
        logits = self.conv(maps.flatten(0, 1)).float()
        logits = F.interpolate(logits, size, mode='bilinear', align_corners=True)
        return logits.unflatten(0, maps.shape[:2])

    def loss(self, logits: Tensor, regions: Tensor) -> Tensor:
        """Compare.

        Args:
            logits (Tensor): (B, E, 2, H, W).
            regions (Tensor): bool, (B, E, H, W); True is inside.

        Returns:
            Tensor: Scalar.
        """
        # The softmax of two classes is the sigmoid of their difference; in this form one
        # map is kept instead of two, and sums on GPUs come in a fixed order.
        inside, target = logits[:, :, 1] - logits[:, :, 0], regions.float()
        if self.objective == 'cross_entropy':
            mean = F.binary_cross_entropy_with_logits(inside, target)
        else:
            error = (target - inside.sigmoid()).abs()
            mean = (error ** (self.gamma + 2)).mean()
        # All exemplars have the same number of pixels.
        return regions.size(1) * mean
