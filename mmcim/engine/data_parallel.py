# Copyright (c) mmcim contributors. All rights reserved.
"""Several processes on CPUs: what DistributedDataParallel leaves to GPUs."""

from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.model.utils import _BatchNormXd
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn
from torch import distributed as dist


@MODEL_WRAPPERS.register_module()
class CPUDataParallel(MMDistributedDataParallel):
    """mmengine's wrapper, in which synchronised batch norms also work on CPUs.

    :func:`mmcim.utils.init_distributed` chooses it where there is no GPU.

    Args:
        module (nn.Module): Its ``SyncBatchNorm`` layers are changed in place.
        **kwargs: See :class:`mmengine.model.MMDistributedDataParallel`.
    """

    def __init__(self, module: nn.Module, **kwargs) -> None:
        for layer in module.modules():
            if type(layer) is nn.SyncBatchNorm:
                layer.__class__ = CPUSyncBatchNorm
        super().__init__(module, **kwargs)


class CPUSyncBatchNorm(_BatchNormXd):
    """Batch norm over the pictures of all processes, whatever their number in each.

    PyTorch's own ``SyncBatchNorm`` takes no tensors of a CPU, and
    ``DistributedDataParallel`` refuses its kind there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            x (Tensor): (B, C, ...).

        Returns:
            Tensor: Likewise.
        """
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        per_channel = [1, -1] + [1] * (x.ndim - 2)
        others = [dim for dim in range(x.ndim) if dim != 1]
        count = x.new_tensor(x.numel() // x.shape[1])
        dist.all_reduce(count)
        mean = _SumOfProcesses.apply(x.sum(others)) / count
        centred = x - mean.view(per_channel)
        variance = _SumOfProcesses.apply(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        x = centred * (variance + self.eps).rsqrt().view(per_channel)
        if self.affine:
            x = x * self.weight.view(per_channel) + self.bias.view(per_channel)
        return x

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:  # the mean of all batches
            share = 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _SumOfProcesses(torch.autograd.Function):
    """The sum over all processes, in whose losses a gradient has its part as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total
