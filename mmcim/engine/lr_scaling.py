# Copyright (c) mmcim contributors. All rights reserved.
"""The learning rate follows the batch that one optimizer step sees."""

from typing import Any

from ..utils.errors import ConfigError

# Arguments of learning-rate schedulers that are learning rates, not ratios of one.
_ABSOLUTE = ('eta_min', 'eta_max', 'min_value')


def lr_ratio(auto_scale_lr: dict | None, effective_batch: int) -> float:
    """What a config's learning rates are multiplied by.

    Args:
        auto_scale_lr: ``dict(enable=..., base_batch_size=...)`` of the config.
        effective_batch: Images per optimizer step, of all processes and accumulated
            batches.

    Returns:
        Effective / base batch size; 1 where scaling is not enabled.

    Raises:
        ConfigError: If scaling is enabled without ``base_batch_size``, or has other keys.
    """
    scaling = auto_scale_lr or {}
    if unknown := sorted(set(scaling) - {'enable', 'base_batch_size'}):
        raise ConfigError(
            f'auto_scale_lr has no {", ".join(unknown)}; use enable and base_batch_size'
        )
    if not scaling.get('enable', False):
        return 1.0
    if not scaling.get('base_batch_size'):
        raise ConfigError(
            'auto_scale_lr.enable is set without auto_scale_lr.base_batch_size, the '
            'batch size that optim_wrapper.optimizer.lr is meant for'
        )
    return effective_batch / scaling['base_batch_size']


def scaled_schedulers(schedulers: Any, ratio: float) -> Any:
    """Scale the learning rates in configs of schedulers, which keeps their shape.

    Args:
        schedulers: One config, or containers of them. Schedulers of a momentum and those
            that have been built stay as they are.
        ratio: See :func:`lr_ratio`.
    """
    if isinstance(schedulers, (list, tuple)):
        return [scaled_schedulers(scheduler, ratio) for scheduler in schedulers]
    if not isinstance(schedulers, dict):
        return schedulers
    kind = schedulers['type']
    # Momentum schedulers have an eta_min, too.
    if not (kind if isinstance(kind, str) else kind.__name__).endswith('LR'):
        return schedulers
    absolute = [key for key in _ABSOLUTE if schedulers.get(key) is not None]
    return {**schedulers, **{key: schedulers[key] * ratio for key in absolute}}
