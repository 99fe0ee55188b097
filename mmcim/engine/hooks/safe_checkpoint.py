# Copyright (c) mmcim contributors. All rights reserved.
"""Checkpoints that survive a crash at any moment."""

import os

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...transfer.backbone_file import backbone_path, save_backbone
from ...transfer.layout import backbone_prefix, is_derived, patch_grid
from ...transfer.metadata import backbone_metadata
from ...utils.files import atomic_write, remove_stale_files

_BACKEND = 'mmcim_atomic'


class AtomicLocalBackend(LocalBackend):
    """The local file system, with files that appear only when they are complete."""

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write bytes to a file.

        Args:
            obj (bytes): The content.
            filepath (str | PathLike): The file to write or replace.
        """
        with atomic_write(filepath) as file:
            file.write(obj)


register_backend(_BACKEND, AtomicLocalBackend, force=True)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's checkpoint hook in an order that is safe against crashes.

    First the checkpoint is written under a temporary name, synchronised and renamed,
    then ``last_checkpoint`` is replaced in the same way, and only then the oldest
    checkpoint is removed; the same for the best one. mmengine writes in place and
    removes first. What a killed run left half-written is removed at the next start.

    Beside each checkpoint, also the best one, stands its plain backbone,
    ``epoch_1_backbone.safetensors``, with what is known about it; see
    :func:`mmcim.transfer.save_backbone`. It goes when its checkpoint goes. The class of
    a model says by ``backbone_prefix`` what is kept of it; by default that is
    ``model.backbone``. The checkpoint's ``meta`` gets ``backbone_prefix`` and
    ``backbone_grid``, so that :func:`mmcim.transfer.load_backbone_weights` finds and
    resizes the same there.

    Args:
        *args: See :class:`mmengine.hooks.CheckpointHook`.
        **kwargs: See :class:`mmengine.hooks.CheckpointHook`. Checkpoints are written
            to a local folder; there are no ``backend_args``.

    Raises:
        ValueError: For arguments that the parent would pass on or ignore.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        unknown = list(self.args)
        unknown += ['backend_args'] if self.backend_args else []
        unknown += ['file_client_args'] if self.file_client_args else []
        if unknown:
            raise ValueError(f'SafeCheckpointHook has no argument {", ".join(unknown)}')
        self.backend_args = dict(backend=_BACKEND)
        self._backbone: tuple[dict, dict] | None = None

    def before_train(self, runner: Runner) -> None:
        """Clean up after a run that was killed while it wrote."""
        kept = list(runner.message_hub.runtime_info.get('keep_ckpt_ids', ()))
        super().before_train(runner)
        if is_main_process():
            # The parent removes checkpoints if fewer are to be kept than before.
            if self.max_keep_ckpts > 0:
                for step in kept[: -self.max_keep_ckpts]:
                    self._remove(self._path(step))
            for folder in {self.out_dir, runner.work_dir}:
                for path in remove_stale_files(folder):
                    runner.logger.warning(f'Removed the half-written {path}.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the backbone out of what is about to be saved."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._backbone = None
        prefix = backbone_prefix(model)
        if prefix is None:
            return
        meta = checkpoint['meta']
        meta['backbone_prefix'] = prefix
        meta['backbone_grid'] = patch_grid(model.get_submodule(prefix.rstrip('.')))
        unit = 'epoch' if self.by_epoch else 'iter'
        metadata = backbone_metadata(model, prefix, runner.cfg, meta['cfg'])
        metadata[unit] = str(meta[unit])
        # What averaging or another hook has put into the checkpoint, not the model's own.
        tensors = {
            name.removeprefix(prefix): value
            for name, value in checkpoint['state_dict'].items()
            if name.startswith(prefix) and not is_derived(name)
        }
        self._backbone = tensors, metadata

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = None
        # After a validation that found the best model the same step is saved once more.
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self._path(self.keep_ckpt_ids.popleft())
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
            self._save_backbone(self.last_ckpt)
            with atomic_write(os.path.join(runner.work_dir, 'last_checkpoint')) as file:
                file.write(self.last_ckpt.encode())
            self._remove(outdated)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        if not self.save_best:
            return
        # The parent removes the previous best file before it writes the new one, but
        # only if it knows of one.
        previous = self._best
        self._best = dict.fromkeys(previous)
        super()._save_best_checkpoint(runner, metrics)
        current = self._best
        self._best = {name: path or previous.get(name) for name, path in current.items()}
        if is_main_process():
            for name, path in current.items():
                if path:
                    self._save_backbone(path)
                if path and path != previous.get(name):
                    self._remove(previous.get(name))

    @property
    def _best(self) -> dict[str, str | None]:
        """The best checkpoint per metric; with one metric its name does not matter."""
        if len(self.key_indicators) == 1:
            return {'best': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    @_best.setter
    def _best(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['best']
        else:
            self.best_ckpt_path_dict = paths

    def _path(self, step: int) -> str:
        return os.path.join(self.out_dir, self.filename_tmpl.format(step))

    def _save_backbone(self, checkpoint: str) -> None:
        """Write the backbone of the checkpoint that has just been saved."""
        if self._backbone is not None:
            save_backbone(backbone_path(checkpoint), *self._backbone)

    def _remove(self, path: str | None) -> None:
        """Remove a checkpoint and its backbone."""
        for file in () if path is None else (backbone_path(path), path):
            if os.path.isfile(file):
                os.remove(file)
