# Copyright (c) mmcim contributors. All rights reserved.
"""The learning rate follows the batch that one optimizer step sees."""

from typing import Any

# Arguments of learning-rate schedulers that are learning rates, not ratios of one.
_ABSOLUTE = ('eta_min', 'eta_max', 'min_value')


def lr_ratio(
    effective_batch: int, enable: bool = False, base_batch_size: int | None = None
) -> float:
    """What a config's learning rates are multiplied by.

    Args:
        effective_batch: Images per optimizer step, of all processes and accumulated
            batches.
        enable: Of ``auto_scale_lr`` in the config, as the next: whether to scale.
        base_batch_size: The batch size that the config's learning rate is for.

    Returns:
        Effective / base batch size; 1 where scaling is not enabled.

    Raises:
        ValueError: If scaling is enabled without ``base_batch_size``.
    """
    if not enable:
        return 1.0
    if not base_batch_size:
        raise ValueError('set base_batch_size, which the learning rate is for')
    return effective_batch / base_batch_size


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
