# Copyright (c) mmcim contributors. All rights reserved.
"""Metrics during pre-training and evaluation after it."""

from .frozen_features import FrozenFeatureLoop, KNNLoop, LinearProbeLoop
from .loss_loop import MetricsLoop, SelfSupTestLoop
from .token_metrics import binary_auc, token_accuracy
