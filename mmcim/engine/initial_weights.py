# Copyright (c) mmcim contributors. All rights reserved.
"""The weights that a new run starts from."""

import logging

from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from ..checkpoints import Pretrained, load_into
from ..checkpoints.layout import normalization
from ..models.layers.momentum import momentum_encoder_of
from .run_record import compare, report


def begin_from_weights(model: nn.Module, filename: str, override: bool = False) -> None:
    """Load all of the backbone, with which a new run starts.

    Args:
        model: The model, not wrapped. Its momentum encoder, if it has one, starts with
            the first of its steps.
        filename: Any file that :func:`mmcim.checkpoints.load_into` reads.
        override: See :func:`check_initial_weights`.

    Raises:
        ValueError: If any of the backbone's tensors is not there, or if it was trained
            with another normalization.
    """
    report = load_into(model, filename)
    if encoder := momentum_encoder_of(model):
        encoder.begin_from(model, report.missing)
    check_initial_weights(model, override)


def check_scope(model: nn.Module) -> None:
    """Make sure that ``Pretrained`` in the current scope loads all of a backbone.

    Raises:
        ValueError: If it is mmengine's own, which leaves random what it does not find.
    """
    with WEIGHT_INITIALIZERS.switch_scope_and_registry(None) as registry:
        strict = registry.get('Pretrained') is Pretrained
    for name, module in model.named_modules():
        init = getattr(module, 'init_cfg', None)
        if not strict and isinstance(init, dict) and init.get('type') == 'Pretrained':
            raise ValueError(
                f"{name}.init_cfg: 'Pretrained' of the scope {registry.scope!r} loads "
                "weights in part without an error; set default_scope='mmpretrain' or "
                "'mmseg' in the config"
            )


def check_initial_weights(model: nn.Module, override: bool = False) -> None:
    """Compare the normalization of a model with that of all weights loaded into it.

    Args:
        model: The model, not wrapped.
        override: Whether another one is meant, and only warned about.

    Raises:
        ValueError: If they differ.
    """
    for name, module in model.named_modules():
        if not getattr(module, 'normalization', None):  # as load_into sets it
            continue
        mean, std = module.normalization
        differences = compare(dict(mean=mean, std=std), normalization(model))
        if not differences:
            continue
        text = (
            'the backbone was trained with another normalization: '
            f'{report(differences, f"the weights of {name}", "data_preprocessor")}. '
            f'Set data_preprocessor.mean={mean} and std={std}, or override=True'
        )
        if not override:
            raise ValueError(text)
        print_log(text, logger='current', level=logging.WARNING)
