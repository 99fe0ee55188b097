# Copyright (c) mmcim contributors. All rights reserved.
import random

import numpy as np
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

import mmcim  # noqa: F401


class Draws(Dataset):
    """Each item is what the three generators of its worker draw."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.tensor(
            [random.random(), np.random.rand(), torch.rand(()).item()],
            dtype=torch.float64,
        )


def epochs(seed, count=2):
    loader = Runner.build_dataloader(
        dict(
            dataset=Draws(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            worker_init_fn=dict(type='mmcim_worker_init_fn'),
            collate_fn=dict(type='default_collate'),
            persistent_workers=False,
            batch_size=1,
            num_workers=2,
        ),
        seed=0,
    )
    torch.manual_seed(seed)
    return [torch.cat(list(loader)) for _ in range(count)]


def test_epochs_workers_and_generators_draw_different_numbers():
    numbers = torch.cat(epochs(seed=0)).flatten()
    assert numbers.unique().numel() == numbers.numel() == 2 * 4 * 3


def test_same_main_generator_draws_the_same_epochs():
    first, second = epochs(seed=3), epochs(seed=3)
    assert torch.equal(torch.cat(first), torch.cat(second))


def test_resuming_the_main_generator_goes_on_with_the_second_epoch():
    torch.manual_seed(5)
    _, second = epochs(seed=5)
    torch.manual_seed(5)
    torch.empty((), dtype=torch.int64).random_()  # what the first epoch drew
    state = torch.get_rng_state()
    loader = torch.utils.data.DataLoader(
        Draws(), num_workers=2, worker_init_fn=mmcim.engine.worker_init_fn
    )
    torch.set_rng_state(state)
    assert torch.equal(torch.cat(list(loader)), second)


def test_processes_draw_different_numbers(monkeypatch):
    first = epochs(seed=0)
    monkeypatch.setenv('RANK', '1')
    second = epochs(seed=0)
    both = torch.cat(first + second).flatten()
    assert both.unique().numel() == both.numel()
