# Copyright (c) mmcim contributors. All rights reserved.
"""The weights that a new run begins with."""

import json
import os

from safetensors import safe_open
from torch import nn

from ..transfer.loader import load_backbone_weights
from .run_record import check_normalization


def begin_from_weights(model: nn.Module, filename: str) -> None:
    """Load all of the backbone, with which a new run begins.

    Args:
        model: The model, not wrapped. Its momentum encoder, if it has one, begins with
            the first of its steps.
        filename: Any file that :func:`mmcim.transfer.load_backbone_weights` reads.

    Raises:
        ConfigError: If any of the backbone's tensors is not there.
    """
    report = load_backbone_weights(model, filename)
    if hasattr(model, 'momentum_encoder'):
        model.momentum_encoder.begin_from(model, report.missing)
    check_backbone_file(model, filename)


def check_initial_weights(model: nn.Module) -> None:
    """Compare the normalization of a model with that of all ``Pretrained`` files in it.

    Raises:
        ConfigError: If they differ.
    """
    for module in model.modules():
        init = getattr(module, 'init_cfg', None)
        if isinstance(init, dict) and init['type'] == 'Pretrained':
            check_backbone_file(model, init['checkpoint'])


def check_backbone_file(model: nn.Module, filename: str) -> None:
    """Compare the normalization of a model with what a file of weights says of its own.

    Raises:
        ConfigError: If they differ.
    """
    path = os.path.expanduser(filename)
    if not (path.endswith('.safetensors') and os.path.isfile(path)):
        return
    with safe_open(path, 'pt') as file:
        metadata = file.metadata() or {}
    if {'mean', 'std'} <= metadata.keys():
        mean, std = (json.loads(metadata[name]) for name in ('mean', 'std'))
        check_normalization(model, mean, std, filename)
