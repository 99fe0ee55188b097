# Copyright (c) mmcim contributors. All rights reserved.
"""Checkpoints that survive a crash at any moment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from torch import Tensor

from ...utils.files import atomic_write, remove_stale_files

_BACKEND = 'mmcim_atomic'


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
    then ``last_checkpoint`` is replaced in the same way, and only then the oldest
    checkpoint is removed; the same for the best one. mmengine writes in place and
    removes first. What a killed run left half-written is removed at the next start.

    A checkpoint holds tensors, numbers, strings, lists, tuples and dicts alone, so that
    plain ``torch.load(weights_only=True)`` reads it.

    Other hooks may have a method ``after_remove_checkpoint(runner, path)``, which the
    main process calls.

    Args:
        *args: See :class:`mmengine.hooks.CheckpointHook`.
        **kwargs: See :class:`mmengine.hooks.CheckpointHook`. Checkpoints are written
            to a local folder; there are no ``backend_args``.

    Raises:
        ValueError: For arguments that the parent would pass on.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs, backend_args=dict(backend=_BACKEND))
        if self.args:
            raise ValueError(f'SafeCheckpointHook has no argument {", ".join(self.args)}')

    def before_train(self, runner: Runner) -> None:
        """Clean up after a run that was killed while it wrote."""
        super().before_train(runner)
        self._remove_outdated(runner)
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                for path in remove_stale_files(folder):
                    runner.logger.warning(f'Removed the half-written {path}.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace objects by plain values."""
        for key in checkpoint.keys() - {'state_dict'}:
            checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Rebuild the log history of a training that is resumed."""
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, history in scalars.items():
            if isinstance(history, dict):
                # On a GPU, if that is where mmengine resumes to.
                values = (history[key].cpu().numpy() for key in ('log', 'count'))
                scalars[name] = HistoryBuffer(*values)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # After a validation that found the best model the same step is saved once more.
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                self.file_backend.remove(self._path(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)

        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
        )
        if is_main_process():
            with atomic_write(os.path.join(runner.work_dir, 'last_checkpoint')) as file:
                file.write(self.last_ckpt.encode())
        self._remove_outdated(runner)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated(runner)

    def _path(self, step: int) -> str:
        return os.path.join(self.out_dir, self.filename_tmpl.format(step))

    def _remove_outdated(self, runner: Runner) -> None:
        """Remove what this class and its parent have noted; the new one is there."""
        if is_main_process():
            for path in self.file_backend.outdated:
                runner.call_hook('after_remove_checkpoint', path=path)
                Path(path).unlink(missing_ok=True)
        self.file_backend.outdated.clear()


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
