# Copyright (c) mmcim contributors. All rights reserved.
"""Metrics during pre-training and evaluation after it."""

from .frozen_features import FrozenFeatureLoop, collect_features
from .knn import KNNLoop, knn_accuracy
from .linear_probe import LinearProbeLoop, linear_probe
from .loss_loop import SelfSupTestLoop
from .metrics_loop import MetricsLoop
from .token_metrics import binary_auc, token_accuracy
