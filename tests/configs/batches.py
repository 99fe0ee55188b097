# Copyright (c) mmcim contributors. All rights reserved.
"""Batch sizes that follow from a config."""

from mmengine.config import Config


def effective_batch_size(cfg: Config, world_size: int) -> int:
    """Images per optimizer step: processes x batch size x accumulated batches."""
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    return world_size * cfg.train_dataloader.batch_size * accumulated
