# Copyright (c) mmcim contributors. All rights reserved.
"""Batch norm over the images of all processes, which no host waits for."""

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules import _functions


class _Normalize(_functions.SyncBatchNorm):
    """PyTorch's function without its search for empty batches.

    The number of those that are left is known only when the GPU has caught up with the
    host, which then waits for it in every layer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        eps: float,
        momentum: float,
    ) -> Tensor:
        if not x.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous()
        mean, invstd = torch.batch_norm_stats(x, eps)  # (C,)
        count = mean.new_full((1,), x.numel() // x.size(1))
        own = torch.cat([mean, invstd, count])  # (2 * C + 1,)
        everyone = own.new_empty(dist.get_world_size(), len(own))
        dist.all_gather(list(everyone.unbind()), own)
        means, invstds, counts = everyone.split([len(mean), len(mean), 1], dim=1)
        mean, invstd = torch.batch_norm_gather_stats_with_counts(
            x,
            means.contiguous(),
            invstds.contiguous(),
            running_mean,
            running_var,
            momentum,
            eps,
            counts.flatten(),
        )
        # What its backward pass expects.
        ctx.save_for_backward(x, weight, mean, invstd, counts.to(torch.int32))
        ctx.process_group = dist.group.WORLD
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _functions.SyncBatchNorm.backward(ctx, grad)[:7]


class SyncBatchNorm(nn.SyncBatchNorm):
    """PyTorch's ``SyncBatchNorm`` where no process has an empty batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x: (B, C) or (B, C, ...), in training on a GPU; B is not 0.

        Returns:
            Of the same shape.
        """
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        self.num_batches_tracked.add_(1)
        return _Normalize.apply(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.eps,
            self.momentum,
        )
