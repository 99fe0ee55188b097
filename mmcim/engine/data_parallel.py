# Copyright (c) mmcim contributors. All rights reserved.
"""Several processes: how a model is wrapped, and batch norm over all of their images."""

from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from mmengine.model import MMDistributedDataParallel
from mmengine.model.utils import _BatchNormXd
from torch import Tensor, nn
from torch import distributed as dist

_WRAPPER = 'MMDistributedDataParallel'


def refuse_unsupported(cfg: Config | dict, launcher: str) -> None:
    """Refuse what would train another way than is promised.

    Raises:
        ValueError: For sharded training, DeepSpeed, MPI, Slurm without GPUs, and
            mmengine's ``compile``.
    """
    wrapper = (cfg.get('model_wrapper_cfg') or {}).get('type')
    optim = (cfg.get('optim_wrapper') or {}).get('type')
    on_gpu = torch.cuda.is_available()
    refused = {
        'launcher=mpi': launcher == 'mpi',
        'launcher=slurm without a GPU': launcher == 'slurm' and not on_gpu,
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


def init_on_cpus(env_cfg: dict) -> None:
    """Start the process group with gloo; mmengine would select a GPU.

    Args:
        env_cfg: With ``dist_cfg.timeout`` in seconds, see
            :class:`mmengine.runner.Runner`.
    """
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
    arguments = dict(find_unused_parameters=cfg.get('find_unused_parameters', False))
    arguments |= cfg.get('model_wrapper_cfg') or {}
    arguments.pop('type', None)
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    if not on_gpu:
        synchronize_on_cpus(model, everywhere=bool(cfg.get('sync_bn')))
    elif cfg.get('sync_bn'):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    arguments |= dict(broadcast_buffers=False, init_sync=False, device_ids=device_ids)
    return MMDistributedDataParallel(model, **arguments)


def synchronize_on_cpus(model: nn.Module, everywhere: bool) -> None:
    """Turn batch norms into :class:`CpuSyncBatchNorm`, with their tensors and hooks.

    Args:
        model: Changed in place.
        everywhere: Whether all batch norms are turned; otherwise only PyTorch's own
            ``SyncBatchNorm``.
    """
    turned = nn.modules.batchnorm._BatchNorm if everywhere else nn.SyncBatchNorm
    for module in model.modules():
        if isinstance(module, turned):
            module.__class__ = CpuSyncBatchNorm


class CpuSyncBatchNorm(_BatchNormXd):
    """Batch norm over the images of all processes, of which each has as many.

    PyTorch's ``SyncBatchNorm`` takes no tensors of a CPU. It sends statistics, and this
    one the images, so that each process computes what a single one would.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize.

        Args:
            x: (B, C, ...).

        Returns:
            Likewise.
        """
        if not self.training:
            return super().forward(x)
        whole = super().forward(_BatchOfProcesses.apply(x))
        return whole.narrow(0, get_rank() * len(x), len(x))


class _BatchOfProcesses(torch.autograd.Function):
    """The batches of all processes, in whose losses an image has its part as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.cat(all_gather(x.contiguous()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        all_reduce(grad := grad.clone())
        return grad.chunk(get_world_size())[get_rank()]
