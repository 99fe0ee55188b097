# Copyright (c) mmcim contributors. All rights reserved.
"""Checkpoints that survive a crash at any moment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.registry import HOOKS
from torch import Tensor

from ...checkpoints.layout import not_finite
from ...utils.files import atomic_write, remove_stale_files
from .finite_loss import diverged

INTERRUPTED = 'interrupted.pth'
_BACKEND = 'mmcim_atomic'
# Holds the iteration of the last completed validation.
_VALIDATED = 'last_validation'


class AtomicLocalBackend(LocalBackend):
    """The local file system, with files that appear only when they are complete.

    Nothing is removed at once: what is to go is noted in ``outdated``.
    """

    outdated: ClassVar[dict[str, None]] = {}

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write or replace a file."""
        with atomic_write(filepath) as file:
            file.write(obj)
        self.outdated.pop(str(filepath), None)

    def remove(self, filepath: str | os.PathLike) -> None:
        """Note a file that is to be removed."""
        self.outdated[str(filepath)] = None


register_backend(_BACKEND, AtomicLocalBackend, force=True)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook in an order that is safe against crashes.

    First the checkpoint is written under a temporary name, synchronised and renamed,
    then ``last_checkpoint`` names it, and only then the oldest checkpoint is removed; the
    same for the best one. mmengine writes in place and removes first. The next
    start removes what a killed run left half-written or was about to remove, and makes up
    a validation that was due.

    A checkpoint holds tensors, numbers, strings, lists, tuples and dicts alone, so that
    plain ``torch.load(weights_only=True)`` reads it. Weights that are NaN or infinite end
    the run instead of replacing a good checkpoint.

    Other hooks may have a method ``after_remove_checkpoint(runner, path)``, which the
    main process calls.

    Args:
        *args: See :class:`mmengine.hooks.CheckpointHook`.
        **kwargs: See :class:`mmengine.hooks.CheckpointHook`. Checkpoints are written
            to the work directory; there are no ``backend_args`` and no ``out_dir``.

    Raises:
        ValueError: For arguments that nothing reads.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs, backend_args=dict(backend=_BACKEND))
        if self.args or self.out_dir:
            raise ValueError(f'it has no argument {", ".join(self.args or ["out_dir"])}')
        self._saved_iter = -1
        AtomicLocalBackend.outdated.clear()  # of a run in this process that failed

    def before_run(self, runner: Runner) -> None:
        """Stop a run that mmengine's runner would carry out, and not exactly.

        ``Runner.from_cfg`` does not read ``runner_type``; ``RUNNERS.build``, which the
        tools of mmpretrain call, does.

        Raises:
            TypeError: If it is not a :class:`StrictRunner`.
        """
        if not hasattr(runner, 'loaded_record'):
            raise TypeError('this config needs a StrictRunner; build it by RUNNERS.build')

    def before_resume(self, runner: Runner, checkpoint: dict, path: str) -> None:
        """Note what was to be removed once this checkpoint had been written."""
        self.last_ckpt = path
        for name in checkpoint['meta'].get('outdated', ()):
            AtomicLocalBackend.outdated[str(Path(path).with_name(name))] = None

    def before_train(self, runner: Runner) -> None:
        """Clean up after a run that was killed, and make up the validation it owes."""
        super().before_train(runner)
        self._remove_outdated(runner)
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                remove_stale_files(folder)
        validate_if_due(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse NaN and infinite weights; replace objects by plain values.

        Raises:
            FloatingPointError: If weights or states of the optimizer are not finite.
        """
        states = {k: v for k, v in checkpoint.items() if k not in ('meta', 'message_hub')}
        if name := next(not_finite(states), None):
            where = f'after iteration {runner.iter}, and no checkpoint was written'
            raise diverged(runner, f'{name} is not finite {where}')
        outdated = map(os.path.basename, self.file_backend.outdated)
        checkpoint['meta']['outdated'] = list(outdated)
        for key in checkpoint.keys() - {'state_dict'}:
            checkpoint[key] = to_plain(checkpoint[key])

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint, then note that this validation was completed."""
        super().after_val_epoch(runner, metrics)
        if is_main_process():
            Path(runner.work_dir, _VALIDATED).write_text(str(runner.iter))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Rebuild the log history of a training that is resumed."""
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, history in scalars.items():
            if isinstance(history, dict):
                values = (history[key].numpy() for key in ('log', 'count'))
                scalars[name] = HistoryBuffer(*values)

    def save_interrupted(self, runner: Runner, iteration: int) -> str:
        """Save a run that is about to leave, unless the last checkpoint is of now.

        The next checkpoint that is due, in the next run, replaces this one.

        Args:
            runner: Between two iterations.
            iteration: How many have been done.

        Returns:
            Path of the latest checkpoint.
        """
        if iteration != self._saved_iter:
            self.filename_tmpl, self.max_keep_ckpts = INTERRUPTED, -1
            meta = dict(epoch=runner.epoch, iter=iteration)
            super()._save_checkpoint_with_step(runner, iteration, meta)
        return str(self.last_ckpt)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self.file_backend.remove(os.path.join(self.out_dir, INTERRUPTED))
        super()._save_checkpoint_with_step(runner, step, meta)
        self._saved_iter = meta['iter']
        self._remove_outdated(runner)

    def _remove_outdated(self, runner: Runner) -> None:
        """Remove what this class and its parent have noted; the new one is there."""
        if is_main_process():
            for path in self.file_backend.outdated:
                runner.call_hook('after_remove_checkpoint', path=path)
                Path(path).unlink(missing_ok=True)
        self.file_backend.outdated.clear()


def validate_if_due(runner: Runner) -> None:
    """Validate, if a kill prevented it between a checkpoint and the next iteration.

    Args:
        runner: At the point that it resumes from.
    """
    if runner.val_loop is None:
        return
    loop, note = runner.train_loop, Path(runner.work_dir, _VALIDATED)
    step, total = runner.iter, runner.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        within_epoch = step > runner.epoch * len(loop.dataloader)
        step, total = (0 if within_epoch else runner.epoch), runner.max_epochs
    loop._decide_current_val_interval()
    # Nodes may have no folder in common.
    done = [note.is_file() and note.read_text() == str(runner.iter)]
    broadcast_object_list(done)
    due = step % loop.val_interval == 0 or step == total
    if due and not done[0] and step >= max(loop.val_begin, 1):
        runner.logger.info('Making up the validation that an interruption prevented.')
        runner.val_loop.run()


def to_plain(value: Any) -> Any:
    """Replace numpy's and mmengine's objects in nested dicts, lists and tuples.

    Arrays become tensors, and the history of a logged scalar a dict of its values
    (``log``) and how many iterations each stands for (``count``). Functions in dicts, as
    some schedulers have, are left out: constructors set them. What else a file read as
    data cannot hold, such as a path, becomes text.
    """
    if isinstance(value, HistoryBuffer):
        return dict(zip(('log', 'count'), map(to_plain, value.data)))
    if isinstance(value, Mapping):
        return {k: to_plain(item) for k, item in value.items() if not callable(item)}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(map(to_plain, value))
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    plain = value is None or isinstance(value, bool | int | float | bytes | Tensor)
    return value if plain else str(value)
