# Copyright (c) mmcim contributors. All rights reserved.
"""What to look at while pre-training and after it."""

from .linear_probe import LinearProbeLoop, linear_probe
from .token_metrics import binary_auc, token_accuracy

__all__ = ['LinearProbeLoop', 'binary_auc', 'linear_probe', 'token_accuracy']
