# Copyright (c) mmcim contributors. All rights reserved.
"""The learning rate follows the batch that one optimizer step sees."""

from mmengine.config import Config
from mmengine.logging import print_log

from .errors import ConfigError

# Arguments of learning-rate schedulers that are learning rates, not ratios of one.
_ABSOLUTE = ('eta_min', 'eta_max', 'min_value')


def effective_batch_size(cfg: Config, world_size: int) -> int:
    """Pictures per optimizer step: processes x batch size x accumulated batches.

    Args:
        cfg (Config): With ``train_dataloader`` and ``optim_wrapper``.
        world_size (int): Number of processes.

    Returns:
        int: The effective batch size.
    """
    return world_size * _batch_size(cfg) * _accumulated(cfg)


def scale_lr(cfg: Config, world_size: int) -> int:
    """Scale the learning rate to the effective batch, if the config asks for it.

    With ``auto_scale_lr = dict(enable=True, base_batch_size=...)`` the learning rate,
    and with it the absolute end points of its schedule (``eta_min``), are multiplied by
    effective / base batch size, which keeps the schedule's shape. In contrast to
    mmengine's own scaling, accumulated batches count. ``enable`` is then set to False,
    so that mmengine does not scale again. Effective batch and learning rate are always
    logged.

    Args:
        cfg (Config): The training config, changed in place.
        world_size (int): Number of processes.

    Returns:
        int: The effective batch size.

    Raises:
        ConfigError: If scaling is enabled without ``base_batch_size``.
    """
    effective = effective_batch_size(cfg, world_size)
    optimizer = cfg.optim_wrapper.optimizer
    how = ''
    scaling = cfg.get('auto_scale_lr') or {}
    if scaling.get('enable', False):
        base = scaling.get('base_batch_size')
        if not base:
            raise ConfigError(
                'auto_scale_lr.enable is set without auto_scale_lr.base_batch_size, '
                'the batch size that optim_wrapper.optimizer.lr is meant for'
            )
        ratio = effective / base
        how = f' (scaled from {optimizer.lr:g} at batch {base})'
        optimizer.lr = optimizer.lr * ratio
        schedulers = cfg.get('param_scheduler') or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            _scale_scheduler(scheduler, ratio)
        scaling.enable = False
    print_log(
        f'Effective batch: {effective} = {world_size} process(es) x {_batch_size(cfg)} '
        f'x {_accumulated(cfg)} accumulated. Learning rate: '
        f'{optimizer.get("lr", "the default of " + str(optimizer.type))}{how}.',
        logger='current',
    )
    return effective


def _scale_scheduler(scheduler: dict, ratio: float) -> None:
    kind = scheduler['type']
    # Momentum schedulers have an eta_min, too.
    if (kind if isinstance(kind, str) else kind.__name__).endswith('LR'):
        for key in _ABSOLUTE:
            if scheduler.get(key) is not None:
                scheduler[key] = scheduler[key] * ratio


def _batch_size(cfg: Config) -> int:
    loader = cfg.train_dataloader
    # A batch sampler of the config's own has the batch size.
    return (loader if 'batch_size' in loader else loader.batch_sampler)['batch_size']


def _accumulated(cfg: Config) -> int:
    return cfg.optim_wrapper.get('accumulative_counts', 1)
