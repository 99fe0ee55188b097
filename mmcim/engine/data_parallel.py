# Copyright (c) mmcim contributors. All rights reserved.
"""Several processes: how a model is wrapped, and batch norm over all of their images."""

import os
import subprocess
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.model import MMDistributedDataParallel
from mmengine.model.utils import _BatchNormXd
from torch import Tensor, nn
from torch import distributed as dist

_WRAPPER = 'MMDistributedDataParallel'
# Where Slurm says what torchrun does.
_SLURM = dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')


def refuse_unsupported(cfg: Config | dict, launcher: str) -> None:
    """Refuse what would train another way than is promised.

    Raises:
        ValueError: For sharded training, DeepSpeed, MPI and mmengine's ``compile``.
    """
    wrapper = (cfg.get('model_wrapper_cfg') or {}).get('type')
    optim = (cfg.get('optim_wrapper') or {}).get('type')
    refused = {
        'launcher=mpi': launcher == 'mpi',
        'compile': cfg.get('compile'),
        'strategy (FSDP, DeepSpeed)': cfg.get('strategy'),
        f'model_wrapper_cfg.type={wrapper}': wrapper not in (None, _WRAPPER),
        f'optim_wrapper.type={optim}': 'DeepSpeed' in str(optim),
    }
    if found := [what for what, is_set in refused.items() if is_set]:
        raise ValueError(
            f'{found[0]} is not supported; remove it: training is data-parallel, by '
            'torchrun (--launcher pytorch) or Slurm'
        )


def init_on_cpus(launcher: str, env_cfg: dict) -> None:
    """Start the process group with gloo; mmengine would select a GPU.

    Args:
        launcher: 'pytorch' or 'slurm'.
        env_cfg: With ``dist_cfg.timeout`` in seconds, see
            :class:`mmengine.runner.Runner`.
    """
    if launcher == 'slurm':
        for name, source in _SLURM.items():
            os.environ[name] = os.environ[source]
        nodes = subprocess.getoutput(
            f'scontrol show hostname {os.environ["SLURM_NODELIST"]}'
        )
        os.environ.setdefault('MASTER_ADDR', nodes.split()[0])
        os.environ.setdefault('MASTER_PORT', '29500')
    timeout = env_cfg.get('dist_cfg', {}).get('timeout')
    dist.init_process_group('gloo', timeout=timeout and timedelta(seconds=timeout))


def wrap_distributed(model: nn.Module, cfg: Config | dict) -> MMDistributedDataParallel:
    """Wrap a model for training in several processes.

    Nothing is broadcast: every process initialises or loads the same weights, those of
    frozen tokenizers from their files, and batch norms that should share statistics are
    synchronised.

    Args:
        model: On its device; its batch norms change where they are synchronised.
        cfg: The runner's config, with ``sync_bn`` (synchronise all batch norms, not only
            those that the model has as ``SyncBN``), ``find_unused_parameters`` and
            ``model_wrapper_cfg`` (further arguments of ``DistributedDataParallel``).
    """
    synchronize_batch_norms(model, everywhere=bool(cfg.get('sync_bn')))
    arguments = dict(find_unused_parameters=cfg.get('find_unused_parameters', False))
    arguments |= cfg.get('model_wrapper_cfg') or {}
    arguments.pop('type', None)
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    arguments |= dict(broadcast_buffers=False, init_sync=False, device_ids=device_ids)
    return MMDistributedDataParallel(model, **arguments)


def synchronize_batch_norms(model: nn.Module, everywhere: bool = True) -> None:
    """Convert batch norms to :class:`SyncBatchNorm`, keeping their tensors and hooks.

    Args:
        model: Changed in place.
        everywhere: Whether all batch norms are converted; otherwise only PyTorch's own
            ``SyncBatchNorm``.
    """
    kind = nn.modules.batchnorm._BatchNorm if everywhere else nn.SyncBatchNorm
    for module in model.modules():
        if isinstance(module, kind):
            module.__class__ = SyncBatchNorm


class SyncBatchNorm(_BatchNormXd):
    """Batch norm over the images of all processes, of which each has one at least.

    It computes on any device, in float32 at least. PyTorch's own takes no tensors of a
    CPU, and ``DistributedDataParallel`` refuses its kind there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize.

        Args:
            x: (B, C, ...).

        Returns:
            Likewise, in the same dtype.

        Raises:
            ValueError: In training, if this process has no images, or if all processes
                together have a single value per channel.
        """
        if self.training and not x.numel():
            raise ValueError(
                f'SyncBatchNorm got an empty batch, of shape {tuple(x.shape)}'
            )
        if not self.training or get_world_size() == 1:
            return super().forward(x)
        per_channel = [1, -1] + [1] * (x.ndim - 2)
        others = [dim for dim in range(x.ndim) if dim != 1]
        values = x if x.dtype == torch.float64 else x.float()
        count = values.new_full((1,), x.numel() // x.shape[1])
        total = _SumOfProcesses.apply(torch.cat([values.sum(others), count]))
        count = total[-1].detach()  # 2 at least
        mean = total[:-1] / count
        centred = values - mean.view(per_channel)
        variance = _SumOfProcesses.apply(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (centred * scale.view(per_channel)).to(x.dtype)
        scale = (scale * self.weight).view(per_channel)
        return (centred * scale + self.bias.view(per_channel)).to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        self.num_batches_tracked += 1
        fraction = self.momentum
        if fraction is None:  # the mean of all batches
            fraction = 1 / self.num_batches_tracked.item()
        self.running_mean.lerp_(mean, fraction)
        self.running_var.lerp_(variance, fraction)


class _SumOfProcesses(torch.autograd.Function):
    """The sum over all processes, in whose losses a gradient has its part as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _SumOfProcesses.apply(grad)
