# Copyright (c) mmcim contributors. All rights reserved.
"""What to look at while pre-training and after it."""

from .linear_probe import LinearProbeLoop, linear_probe
from .loss_loop import SelfSupTestLoop
from .token_metrics import binary_auc, token_accuracy

__all__ = [
    'LinearProbeLoop',
    'SelfSupTestLoop',
    'binary_auc',
    'linear_probe',
    'token_accuracy',
]
