# Copyright (c) mmcim contributors. All rights reserved.
"""Operations for which the host waits for a GPU, counted in a training on any device."""

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# What is read by the host, or has a shape that depends on the values.
_WAITING = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.equal,
    aten.masked_select,
    aten.nonzero,
    aten.unique_consecutive,
    aten.unique_dim,
}


class HostWaits(TorchDispatchMode):
    """Counts waits while it is entered.

    - A value is read, as by ``item()``.
    - The shape of a result depends on values, as in an index by a boolean mask.
    - Tensors are copied between devices without ``non_blocking`` (on a GPU only).

    Optimizers, whose step counts lie on the host, are left out.

    Attributes:
        places: Line of Python that is not PyTorch's -> number of waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places = Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: Sequence, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if _waits(func, args, kwargs or {}, result):
            frames = [f for f in traceback.extract_stack() if __file__ != f.filename]
            if not any('torch/optim/' in frame.filename for frame in frames):
                own = [f for f in frames if '/torch/' not in f.filename]
                place = f'{own[-1].filename}:{own[-1].lineno} ({own[-1].name})'
                self.places[place] += 1
        return result


def _waits(func: Callable, args: tuple, kwargs: dict, result: Any) -> bool:
    packet = getattr(func, 'overloadpacket', None)
    if packet is aten.index or packet is aten.index_put_:
        return any(i is not None and i.dtype == torch.bool for i in args[1])
    if packet is aten.repeat_interleave:
        return kwargs.get('output_size') is None and len(args) < 2
    if packet is aten._to_copy or packet is aten.copy_:
        source = args[1] if packet is aten.copy_ else args[0]
        crosses = isinstance(result, Tensor) and result.device != source.device
        return crosses and not (kwargs.get('non_blocking') or True in args[2:])
    return packet in _WAITING


class HostWaitsHook(Hook):
    """Counts the waits of iterations, those of all hooks included.

    The last iteration, which saves a checkpoint, is not counted.

    Args:
        first: Iterations before those that are counted: some things are done once.

    Attributes:
        waits: What has been counted.
    """

    def __init__(self, first: int = 2) -> None:
        self.first = first
        self.waits = HostWaits()

    def before_train(self, runner: Runner) -> None:
        """Let the loop count; fetching a batch is not a part of its iterations."""
        run_iter = runner.train_loop.run_iter

        def counted(*args: Any) -> None:
            counts = self.first <= runner.iter < runner.max_iters - 1
            with self.waits if counts else nullcontext():
                run_iter(*args)

        runner.train_loop.run_iter = counted
