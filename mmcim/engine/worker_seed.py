# Copyright (c) mmcim contributors. All rights reserved.
"""Seeds of the data-loader workers."""

import os
import random

import numpy as np
import torch
from mmengine.dist import get_rank, is_distributed
from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module(name='mmcim_worker_init_fn')
def worker_init_fn(worker_id: int) -> None:
    """Seed a worker's generators anew for each epoch, resume and process.

    mmengine seeds each worker from run seed, rank and worker alone, so that workers
    that start anew, with every epoch or after a resume, replay the same crops. torch
    draws a base seed from the main process each time it starts workers; here it is
    mixed with the rank. Since :class:`RunStateHook` restores the main process'
    generator, a resumed run draws the same base seeds as one that was not interrupted.

    In a config: ``train_dataloader = dict(worker_init_fn=dict(
    type='mmcim_worker_init_fn'), ...)``.

    Args:
        worker_id (int): Number of the worker; already part of torch's seed.
    """
    rank = get_rank() if is_distributed() else int(os.environ.get('RANK', 0))
    # At this point the worker's torch seed is base seed + worker_id.
    sequence = np.random.SeedSequence([torch.initial_seed(), rank])
    for_python, for_numpy, for_torch = sequence.spawn(3)
    random.seed(int(for_python.generate_state(1, np.uint64)[0]))
    np.random.seed(for_numpy.generate_state(4))
    torch.manual_seed(int(for_torch.generate_state(1, np.uint64)[0]))
