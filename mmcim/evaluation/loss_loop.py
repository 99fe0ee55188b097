# Copyright (c) mmcim contributors. All rights reserved.
"""Tests without an evaluator, and that of a self-supervised model: its own losses."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmengine.dist import all_reduce_dict
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import TestLoop
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import LOOPS

from ..utils.terminal import track


class MetricsLoop(TestLoop):
    """Test loop that reports what :meth:`compute` gives; no evaluator is needed."""

    def run(self) -> dict[str, float]:
        """Compute the metrics and report them to the hooks: name -> value."""
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        model = self.runner.model.eval()
        metrics = self.compute(model.module if is_model_wrapper(model) else model)
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    @abstractmethod
    def compute(self, model: BaseModel) -> dict[str, float]:
        """Compute the metrics, the same in every process.

        Args:
            model: In evaluation mode, not wrapped.

        Returns:
            Name -> value.
        """


@LOOPS.register_module()
class SelfSupTestLoop(MetricsLoop):
    """Test loop that reports what a model's ``loss`` gives, averaged over images.

    For CIM that is the losses, token accuracy and detection metrics; for a discrete VAE
    the reconstruction loss, PSNR and codes in use. The model is in eval mode, nothing
    is flipped, and masks and samples are drawn from the seed of the run. With several
    processes the mean of their means is reported. The ``test_evaluator`` is not used;
    ``[]`` does.
    """

    def compute(self, model: BaseModel) -> dict[str, float]:
        """Compute the losses: name -> mean."""
        return mean_losses(model, self._seeded(f'Testing {type(model).__name__}'))

    def _seeded(self, title: str) -> Iterator[dict]:
        """Give the batches; :class:`SeedHook` seeds what the model draws for each."""
        for place, batch in enumerate(track(self.dataloader, title)):
            self.runner.call_hook('before_test_iter', batch_idx=place, data_batch=batch)
            yield batch


@torch.no_grad()
def mean_losses(model: BaseSelfSupervisor, batches: Iterable[dict]) -> dict[str, float]:
    """Average what a model's ``loss`` gives over images.

    Args:
        model: In eval mode, not wrapped.
        batches: From its data loader. Every process has some, not too different in
            number; the mean of the processes' means is reported.

    Returns:
        Name -> mean.
    """
    sums, count = defaultdict[str, Any](float), 0
    for batch in batches:
        data = model.data_preprocessor(batch, training=False)
        size = len(data['inputs']['images'])
        for name, value in model(**data, mode='loss').items():
            sums[name] = sums[name] + size * value.float()
        count += size
    means = {name: value / count for name, value in sums.items()}
    all_reduce_dict(means, op='mean')
    return {name: value.item() for name, value in means.items()}
