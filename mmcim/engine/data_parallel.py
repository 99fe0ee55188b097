# Copyright (c) mmcim contributors. All rights reserved.
"""Several processes: how they begin and agree, and how a model is wrapped."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.model import MMDistributedDataParallel, revert_sync_batchnorm
from mmengine.runner import BaseLoop, Runner
from torch import distributed as dist
from torch import nn

from mmcim_cli import end_with_parent

from ..models.layers import SyncBatchNorm
from ..utils.errors import ConfigError
from .run_record import compare, first_few

_WRAPPER = 'MMDistributedDataParallel'


def refuse_unsupported(cfg: Config | dict, launcher: str) -> None:
    """Refuse what would train another way than is promised.

    Raises:
        ValueError: For sharded training, DeepSpeed, MPI, and Slurm without GPUs.
    """
    wrapper = (cfg.get('model_wrapper_cfg') or {}).get('type')
    optim = (cfg.get('optim_wrapper') or {}).get('type')
    on_gpu = torch.cuda.is_available()
    refused = {
        'launcher=mpi': launcher == 'mpi',
        'launcher=slurm without a GPU': launcher == 'slurm' and not on_gpu,
        'strategy (FSDP, DeepSpeed)': cfg.get('strategy'),
        f'model_wrapper_cfg.type={wrapper}': wrapper not in (None, _WRAPPER),
        f'optim_wrapper.type={optim}': 'DeepSpeed' in str(optim),
    }
    if found := [what for what, is_set in refused.items() if is_set]:
        raise ValueError(f'{found[0]} is not supported; train by torchrun or Slurm')


@contextmanager
def together() -> Iterator[None]:
    """Let all processes end if one of them fails; nothing inside may wait for others.

    Raises:
        ConfigError: In every process: its own, or the first of the others'.
    """
    error = None
    try:
        yield
    except ConfigError as caught:
        error = caught
    messages = [text for text in all_gather_object(error and str(error)) if text]
    if messages:
        raise error or ConfigError(messages[0])


def check_processes(record: dict[str, Any]) -> None:
    """Compare a dict of plain values across all processes.

    Raises:
        ConfigError: On all of them, if any has others.
    """
    everyone = all_gather_object(record)
    for rank, other in enumerate(everyone):
        differences = compare(everyone[0], other, 'process 0', f'process {rank}')
        if differences:
            raise ConfigError(
                f'processes differ: {first_few(differences.values())}. All nodes need '
                'the same config, data, versions and work directory'
            )


def set_timeout(runner: Runner, dist_cfg: dict) -> timedelta | None:
    """Let the data loaders of a run wait as long for a worker as processes for others.

    Args:
        runner: Whose data loaders have not been built.
        dist_cfg: With ``timeout`` in seconds; without it there is no limit here, and
            PyTorch's between processes.

    Returns:
        The time between processes.
    """
    seconds = dist_cfg.get('timeout')
    for mode in ('train', 'val', 'test') if seconds else ():
        loader = getattr(runner, f'_{mode}_dataloader')
        if isinstance(loader, dict):  # without workers it is left out
            loader.setdefault('timeout', seconds)
    return timedelta(seconds=seconds) if seconds else None


def collect_device() -> str:
    """Where mmengine collects the results of all processes.

    Returns:
        'cpu', by files in a folder, on one node; 'gpu', through the process group (also
        one of CPUs), on several, which may have no folder in common.
    """
    nodes = os.environ.get('GROUP_WORLD_SIZE') or os.environ.get('SLURM_NNODES') or 1
    return 'gpu' if dist.is_initialized() and int(nodes) > 1 else 'cpu'


def collect_through_group(*loops: BaseLoop | dict | None) -> None:
    """Let the metrics of loops need no folder in common, see :func:`collect_device`."""
    for loop in loops:
        for metric in loop.evaluator.metrics if isinstance(loop, BaseLoop) else ():
            metric.collect_device = collect_device()


def begin_loader_worker(worker_id: int) -> None:
    """Let a worker of a data loader end with its parent, and not before.

    Signals to all processes of a run, as by Ctrl-C or torchrun, do not reach it: its
    parent needs it until the run has left in order.
    """
    end_with_parent()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # Slurm sends it to each process


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
    # Gradients are where they are exchanged: no second copy of them.
    arguments: dict[str, Any] = dict(gradient_as_bucket_view=True)
    arguments['find_unused_parameters'] = cfg.get('find_unused_parameters', False)
    arguments |= cfg.get('model_wrapper_cfg') or {}
    arguments.pop('type', None)
    on_gpu = any(parameter.is_cuda for parameter in model.parameters())
    if not on_gpu:
        model = revert_sync_batchnorm(model)
    elif cfg.get('sync_bn'):
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.SyncBatchNorm and SyncBatchNorm.is_like(module):
            module.__class__ = SyncBatchNorm  # the same layer, which waits for nothing
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    arguments |= dict(broadcast_buffers=False, init_sync=False, device_ids=device_ids)
    return MMDistributedDataParallel(model, **arguments)
