# Copyright (c) mmcim contributors. All rights reserved.
"""Every method reproduces its stored losses and gradients."""

import pytest

from . import methods, steps
from .store import STEPS, differences, read

STORED = read(STEPS)


def test_every_method_is_stored():
    assert sorted(STORED) == sorted(methods.CONFIGS)


@pytest.mark.parametrize('name', methods.CONFIGS)
def test_losses_and_gradients(name):
    found, stored = steps.measure(name), STORED[name]
    assert not differences(found['steps'], stored['steps'], rel=1e-6, small=1e-12)
    # Some true gradients are zero, which leaves rounding errors.
    assert not differences(found['gradients'], stored['gradients'], rel=1e-5, small=1e-8)
