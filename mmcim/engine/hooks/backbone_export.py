# Copyright (c) mmcim contributors. All rights reserved.
"""The backbone beside each checkpoint."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...checkpoints.layout import backbone_prefix, tensors_below
from ...checkpoints.record import backbone_path, describe_backbone, save_backbone
from ...models.tokenizers.base import BaseTokenizer


@HOOKS.register_module()
class BackboneExportHook(Hook):
    """Write ``epoch_1_backbone.safetensors`` beside ``epoch_1.pth``.

    It holds the backbone alone, with a record of what is known about it, which the
    checkpoint has in ``meta['backbone']``, too; see
    :class:`mmcim.checkpoints.BackboneRecord`. The class of a model says by
    ``backbone_prefix`` what is exported of it; by default that is ``model.backbone``.
    The file goes when its checkpoint goes. Works with :class:`SafeCheckpointHook`.
    """

    priority = 'LOWEST'  # after averaging and the like have changed the checkpoint

    def __init__(self) -> None:
        self._export: tuple | None = None

    def before_resume(self, runner: Runner, checkpoint: dict, path: str) -> None:
        """Write the backbone of a checkpoint if a kill prevented it."""
        if is_main_process() and not backbone_path(path).is_file():
            self.before_save_checkpoint(runner, checkpoint)
            self.after_save_checkpoint(runner, path)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the backbone out of what is about to be saved."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._export = None
        prefix = backbone_prefix(model)
        if prefix is None:
            return
        tensors = tensors_below(prefix, checkpoint['state_dict'])
        record = describe_backbone(model, prefix, tensors, runner.cfg)
        if record is None:
            return
        meta = checkpoint['meta']
        record.origin |= {key: meta[key] for key in ('epoch', 'iter')}
        for module in model.modules():
            if isinstance(module, BaseTokenizer):
                record.origin['tokenizer_sha256'] = module.identity['sha256']
        meta['backbone'] = record.dumps()
        self._export = tensors, record

    def after_save_checkpoint(self, runner: Runner, path: str) -> None:
        """Write the backbone of the checkpoint that has just been saved."""
        if self._export is not None:
            save_backbone(backbone_path(path), *self._export)

    def after_remove_checkpoint(self, runner: Runner, path: str) -> None:
        """Remove it with its checkpoint."""
        Path(backbone_path(path)).unlink(missing_ok=True)
