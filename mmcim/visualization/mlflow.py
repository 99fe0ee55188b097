# Copyright (c) mmcim contributors. All rights reserved.
"""MLflow as a backend of mmengine's visualizer, with images."""

from typing import Any

import numpy as np
from mmengine.registry import VISBACKENDS
from mmengine.visualization import MLflowVisBackend as _MLflowVisBackend
from mmengine.visualization.vis_backend import force_init_env


@VISBACKENDS.register_module(force=True)
class MLflowVisBackend(_MLflowVisBackend):
    """mmengine's backend, which gives images no suffix and no step: MLflow fails then.

    See :class:`mmengine.visualization.MLflowVisBackend`.
    """

    @force_init_env
    def add_image(
        self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any
    ) -> None:
        """Log an image, (H, W, 3), uint8, RGB, as ``<name>_<step>.png``."""
        self._mlflow.log_image(image, f'{name}_{step}.png')
