# Copyright (c) mmcim contributors. All rights reserved.
"""Signals that end a training: it saves a checkpoint and leaves, to be resumed."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed as dist

from .hooks import SafeCheckpointHook

# Of schedulers (Slurm, Kubernetes, torchrun) and people.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# Set where all processes see it once the main process has left a validation.
_LEFT = 'mmcim_main_process_has_left'


class InterruptionHook(Hook):
    """Leave a training in order after Ctrl-C, SIGTERM or SIGUSR1.

    After the iteration that runs, or the next step of the optimizer if gradients are
    accumulated, a checkpoint is saved, and the process exits with 128 and the number of
    the signal. Before and after training a signal ends the process at once, as does a
    second one after a second. :class:`StrictRunner` adds this hook to a run.

    All processes leave after the same iteration, whichever of them has got the signal.
    They agree over the CPUs: nobody waits for a GPU. In a validation no weights change,
    and processes may have different numbers of batches: the main process saves, and
    leaves with those that have got the signal as well.

    Args:
        timeout: After which a process that waits for another one fails; None for
            PyTorch's default.
    """

    priority = 'LOWEST'  # after the checkpoint that is due

    def __init__(self, timeout: timedelta | None = None) -> None:
        self.received, self._since, self._is_training = 0, 0.0, False
        self._timeout = timeout
        self._group: Any = None
        self._store: Any = None
        self._patience = timedelta(seconds=10)

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Note signals while this runs, in the main thread, which alone gets them."""
        is_main = threading.current_thread() is threading.main_thread()
        before = {n: signal.signal(n, self._note) for n in SIGNALS if is_main}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def before_train(self, runner: Runner) -> None:
        """From now on there is something to save."""
        self._is_training = True
        if runner.world_size > 1:
            self._group = dist.new_group(backend='gloo', timeout=self._timeout)
            self._store = dist.distributed_c10d._get_default_store()

    def after_train(self, runner: Runner) -> None:
        """All is saved."""
        self._is_training = False

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Leave if any process has got a signal."""
        number, done = self._agreed(), runner.iter + 1
        if number and done % runner.optim_wrapper._accumulative_counts == 0:
            self._save(runner, number, done)
            if self._group:
                dist.barrier(self._group)  # launchers end all once one has left
            raise SystemExit(128 + number)

    def after_val_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Leave; the others that have got the signal wait for the main process."""
        if not self.received or runner.iter % runner.optim_wrapper._accumulative_counts:
            return
        if is_main_process():
            self._save(runner, self.received, runner.iter)
            if self._store:
                self._store.set(_LEFT, '')
        elif not self._main_has_left():
            return
        raise SystemExit(128 + self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._is_training or self.received and time.monotonic() > self._since + 1:
            raise SystemExit(128 + number)
        if not self.received:
            self.received, self._since = number, time.monotonic()

    def _agreed(self) -> int:
        """The signal that any process has got."""
        if not self._group:
            return self.received
        number = torch.tensor(self.received)
        dist.all_reduce(number, dist.ReduceOp.MAX, self._group)
        return int(number)

    def _main_has_left(self) -> bool:
        """Wait for it once: it may have got no signal, or be past its last batch."""
        patience, self._patience = self._patience, timedelta(milliseconds=1)
        try:
            self._store.wait([_LEFT], patience)
        except dist.DistStoreError:
            return False
        return True

    def _save(self, runner: Runner, number: int, done: int) -> None:
        self._since = math.inf  # torchrun and Slurm repeat signals
        hooks = (hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
        files = [hook.save_interrupted(runner, done) for hook in hooks]
        runner.logger.info(
            f'Stopped by {signal.Signals(number).name} after {done} iterations; --resume '
            f'continues from {", ".join(files) or "the last checkpoint"}',
            extra=dict(event='interrupted'),
        )
