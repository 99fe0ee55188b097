# Copyright (c) mmcim contributors. All rights reserved.
"""The weights that a new run starts from."""

from torch import nn

from ..checkpoints import load_into
from .run_record import check_normalization


def begin_from_weights(model: nn.Module, filename: str) -> None:
    """Load all of the backbone, with which a new run starts.

    Args:
        model: The model, not wrapped. Its momentum encoder, if it has one, starts with
            the first of its steps.
        filename: Any file that :func:`mmcim.checkpoints.load_into` reads.

    Raises:
        ConfigError: If any of the backbone's tensors is not there, or if it was trained
            with another normalization.
    """
    report = load_into(model, filename)
    if hasattr(model, 'momentum_encoder'):
        model.momentum_encoder.begin_from(model, report.missing)
    check_initial_weights(model)


def check_initial_weights(model: nn.Module) -> None:
    """Compare the normalization of a model with that of all weights loaded into it.

    Raises:
        ConfigError: If they differ.
    """
    for name, module in model.named_modules():
        if normalization := getattr(module, 'normalization', None):
            mean, std = ([255 * value for value in part] for part in normalization)
            check_normalization(model, mean, std, f'the weights of {name}')
