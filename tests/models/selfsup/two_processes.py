# Copyright (c) mmcim contributors. All rights reserved.
"""Two gloo processes against one."""

import multiprocessing
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import torch
import torch.multiprocessing as mp
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from mmengine.model.utils import _BatchNormXd
from mmpretrain.registry import MODELS
from torch import nn

from mmcim.engine.data_parallel import wrap_distributed
from mmcim.models.layers import BaseMasking

# Forks of a process that has imported all this but used no autograd, whose threads a
# fork of this process would lack.
_START = 'forkserver'
multiprocessing.set_forkserver_preload([__name__])


@MODELS.register_module()
class FixedMasking(BaseMasking):
    """The first row of the first two images of all processes, two rows of the rest."""

    def __call__(self, batch_size, grid, device):
        first = get_rank() * batch_size
        images = torch.arange(first, first + batch_size, device=device)
        rows = torch.arange(grid[0], device=device)
        masked = rows <= images[:, None] // 2
        return masked[..., None].expand(-1, -1, grid[1])


def assert_two_match_one(
    build: Callable[[], nn.Module],
    steps: Callable[[nn.Module, slice], None],
    folder: Path,
    atol: float = 2e-6,
) -> tuple[dict, dict]:
    """Train with half of a batch of four in each of two processes, and with all in one.

    Args:
        build: Gives the model, always the same. It can be pickled.
        steps: Trains a model, wrapped or not, with a part of the batch. Likewise.
        folder: For what the processes have to say.
        atol: How far tensors may differ, beside 1e-4 of their size.

    Returns:
        The state dicts of the one process before and after.
    """
    arguments = (build, steps, free_port(), folder)
    mp.start_processes(_work, arguments, nprocs=2, start_method=_START)
    whole = build()
    start = {k: v.clone() for k, v in whole.state_dict().items()}
    steps(whole, slice(0, 4))
    end = whole.state_dict()
    for rank in range(2):
        with open(folder / f'{rank}.pkl', 'rb') as file:
            two = pickle.load(file)
        assert two.keys() == start.keys()
        for key, value in end.items():
            torch.testing.assert_close(
                torch.from_numpy(two[key]), value, atol=atol, rtol=1e-4, msg=key
            )
    return start, end


def free_port() -> int:
    """A free port."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def _work(rank, build, steps, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    model = build()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = WholeBatchNorm
    model = wrap_distributed(model, {})
    steps(model, slice(2 * rank, 2 * rank + 2))
    with open(f'{folder}/{rank}.pkl', 'wb') as file:
        pickle.dump({k: v.numpy() for k, v in model.module.state_dict().items()}, file)
    torch.distributed.destroy_process_group()


class WholeBatchNorm(_BatchNormXd):
    """Batch norm over the gathered batch, as PyTorch's ``SyncBatchNorm`` on GPUs."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        whole = super().forward(_WholeBatch.apply(x))
        return whole.narrow(0, get_rank() * len(x), len(x))


class _WholeBatch(torch.autograd.Function):
    """The batches of all processes, in whose losses an image has its part as well."""

    @staticmethod
    def forward(ctx, x):
        return torch.cat(all_gather(x.contiguous()))

    @staticmethod
    def backward(ctx, grad):
        all_reduce(grad := grad.clone())
        return grad.chunk(get_world_size())[get_rank()]
