# Copyright (c) mmcim contributors. All rights reserved.
"""Several processes: how they begin, and how a model is wrapped."""

from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from torch import distributed as dist
from torch import nn

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
            f'{found[0]} is not supported; remove it, and train by torchrun or Slurm'
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
    synchronised. PyTorch does that on GPUs alone: on CPUs each process normalises by the
    statistics of its own images.

    Args:
        model: On its device; its batch norms may be replaced.
        cfg: The runner's config, with ``sync_bn`` (synchronise all batch norms, not only
            those that the model has as ``SyncBN``), ``find_unused_parameters`` and
            ``model_wrapper_cfg`` (further arguments of ``DistributedDataParallel``).
    """
    arguments = dict(find_unused_parameters=cfg.get('find_unused_parameters', False))
    arguments |= cfg.get('model_wrapper_cfg') or {}
    arguments.pop('type', None)
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    if not on_gpu:
        model = revert_sync_batchnorm(model)
    elif cfg.get('sync_bn'):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    arguments |= dict(broadcast_buffers=False, init_sync=False, device_ids=device_ids)
    return MMDistributedDataParallel(model, **arguments)
