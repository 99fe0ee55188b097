# Copyright (c) mmcim contributors. All rights reserved.
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class DenoisingContrastHead(BaseModule):
    """Find each masked patch among all patches of its picture (arXiv 2205.09616).

    For the masked patches j of a picture of N patches the loss is

    ``-log(exp(<q_j, k_j> / tau) / sum_i exp(<q_j, k_i> / tau))``, i = 1 ... N,

    with queries q and keys k of length 1, averaged over the masked patches of a picture
    and then over pictures, so that it does not depend on how a batch is split over
    processes. The other patches of the same picture are the only negatives. Keys get no
    gradient.

    Args:
        temperature (float): tau. Defaults to 0.1.

    Raises:
        ValueError: If the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature={temperature} must be positive')
        self.temperature = temperature

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Compare, in float32 whatever the precision of the networks.

        Args:
            queries (Tensor): (B, N, C), of any length.
            keys (Tensor): Likewise; without gradient from here on.

        Returns:
            Tensor: Cosines over the temperature, float32, (B, N, N): a row per query.
        """
        with torch.autocast(queries.device.type, enabled=False):
            queries = F.normalize(queries.float(), dim=-1) / self.temperature
            keys = F.normalize(keys.detach().float(), dim=-1)
            return queries @ keys.transpose(1, 2)

    def loss(self, queries: Tensor, keys: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Contrast.

        Args:
            queries (Tensor): Patches of the masked pictures, (B, N, C).
            keys (Tensor): Patches of the full pictures, (B, N, C).
            mask (Tensor): bool, (B, h, w), h * w = N; True is masked.

        Returns:
            dict[str, Tensor]: ``loss``, and to watch ``accuracy``, the share of masked
            patches whose own key is the nearest.
        """
        logits, mask = self(queries, keys), mask.flatten(1)
        own = torch.arange(logits.size(1), device=logits.device).expand_as(mask)
        # To leave rows out by the target copies nothing, and the host need not wait for
        # their number.
        target = own.masked_fill(~mask, -100)
        losses = F.cross_entropy(
            logits.flatten(0, 1), target.flatten(), reduction='none'
        ).view_as(target)
        loss = (losses.sum(dim=1) / mask.sum(dim=1)).mean()
        found = logits.detach().argmax(dim=2) == target
        return dict(loss=loss, accuracy=found.sum() / mask.sum())
