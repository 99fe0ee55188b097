# Copyright (c) mmcim contributors. All rights reserved.
"""A test loop whose metrics come from something else than a test evaluator."""

from abc import abstractmethod

from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import TestLoop


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
