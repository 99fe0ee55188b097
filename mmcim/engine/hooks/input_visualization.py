# Copyright (c) mmcim contributors. All rights reserved.
"""Images of segmentation that come from no file."""

from typing import Any

from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from mmseg.engine import SegVisualizationHook


@HOOKS.register_module()
class InputVisualizationHook(SegVisualizationHook):
    """Draws predictions on the model's inputs, for data sets of images without files.

    mmsegmentation's own hook reads the file of each image again. The inputs have to have
    the size of the predictions: no transform may have resized them.
    """

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: list[Any]
    ) -> None:
        """Draw a batch, uint8 (3, H, W) each, BGR, under consecutive numbers."""
        if not self.draw:
            return
        for image, sample in zip(data_batch['inputs'], outputs, strict=True):
            self._test_index += 1
            rgb = image.flip(0).permute(1, 2, 0).numpy()
            self._visualizer.add_datasample('test', rgb, sample, step=self._test_index)
