# Copyright (c) mmcim contributors. All rights reserved.
from types import SimpleNamespace

import numpy as np
from mmengine.logging import MMLogger
from mmengine.registry import VISBACKENDS

from mmcim.utils.terminal import show_on_screen
from mmcim.visualization import MLflowVisBackend


def test_images_have_a_suffix_and_a_step(tmp_path):
    config = dict(type='MLflowVisBackend', save_dir=str(tmp_path))
    backend = VISBACKENDS.build(config)
    assert isinstance(backend, MLflowVisBackend)
    logged = []
    backend._mlflow = SimpleNamespace(log_image=lambda *args: logged.append(args))
    backend._env_initialized = True
    image = np.zeros((4, 4, 3), np.uint8)
    backend.add_image('panels', image, step=100)
    assert logged == [(image, 'panels_100.png')]


def test_handlers_of_the_screen_have_an_open_stream():
    """The backend reopens those of all handlers that have none."""
    logger = MMLogger('test_mlflow')
    show_on_screen(logger)
    assert not any(handler.stream.closed for handler in logger.handlers)
