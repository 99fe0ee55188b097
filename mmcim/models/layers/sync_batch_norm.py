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
        self: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        eps: float,
        momentum: float,
        process_group: Any,
        world_size: int,
    ) -> Tensor:
        if not input.is_contiguous(memory_format=torch.channels_last):
            input = input.contiguous()
        mean, invstd = torch.batch_norm_stats(input, eps)  # (C,)
        count = mean.new_full((1,), input.numel() // input.size(1))
        own = torch.cat([mean, invstd, count])  # (2 * C + 1,)
        everyone = own.new_empty(world_size, len(own))
        dist.all_gather(list(everyone.unbind()), own, process_group)
        means, invstds, counts = everyone.split([len(mean), len(mean), 1], dim=1)
        mean, invstd = torch.batch_norm_gather_stats_with_counts(
            input,
            means.contiguous(),
            invstds.contiguous(),
            running_mean,
            running_var,
            momentum,
            eps,
            counts.flatten(),
        )
        # What the backward pass of PyTorch's expects.
        self.save_for_backward(input, weight, mean, invstd, counts.to(torch.int32))
        self.process_group = process_group
        return torch.batch_norm_elemt(input, weight, bias, mean, invstd, eps)


class SyncBatchNorm(nn.SyncBatchNorm):
    """PyTorch's ``SyncBatchNorm`` where no process has an empty batch."""

    num_batches_tracked: Tensor

    @staticmethod
    def is_like(norm: nn.SyncBatchNorm) -> bool:
        """Whether it has running statistics, by momentum, and is of all processes."""
        plain = norm.momentum is not None and norm.process_group is None
        return plain and norm.track_running_stats

    def forward(self, input: Tensor) -> Tensor:
        """Normalise.

        Args:
            input: (B, C) or (B, C, ...), in training on a GPU; B is not 0.

        Returns:
            Of the same shape.
        """
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        self.num_batches_tracked.add_(1)
        return _Normalize.apply(
            input,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.eps,
            self.momentum,
            dist.group.WORLD,
            dist.get_world_size(),
        )
