# Copyright (c) mmcim contributors. All rights reserved.
import random

import numpy as np
import torch

from mmcim.engine.rng import get_rng_state, set_rng_state


def draw():
    return [random.gauss(0, 1), np.random.randn(), torch.randn(()).item()]


def test_restored_generators_draw_the_same_numbers(tmp_path):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    # Gaussian numbers come in pairs, of which the second one is part of the state.
    draw()
    torch.save(get_rng_state(), tmp_path / 'state.pth')
    expected = [draw() for _ in range(3)]
    draw()
    set_rng_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    assert [draw() for _ in range(3)] == expected
