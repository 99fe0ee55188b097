# Copyright (c) mmcim contributors. All rights reserved.
"""Random numbers that follow from where a run is, so that no state has to be stored.

Each training iteration, each sample and each validation batch seeds the generators of its
process anew. A run that resumes anywhere therefore draws what it would have drawn without
the interruption, with any number of worker processes.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, DATASETS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader, Dataset, Sampler

# What is seeded; the same numbers in another place give another seed.
_SAMPLE, _TRAINING, _EVALUATION = range(3)


def seed_generators(*numbers: int) -> None:
    """Seed the generators of python, numpy and torch, GPUs included.

    Args:
        *numbers: Not negative; others give other, independent seeds.
    """
    seeds = np.random.SeedSequence(numbers).generate_state(3, np.uint64)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1] >> np.uint64(32))
    # torch.manual_seed would queue a call for a GPU that nobody uses, and take 100 us.
    torch.default_generator.manual_seed(int(seeds[2]))
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(int(seeds[2]))


class SeededDataset(Dataset):
    """A dataset whose samples depend on their index and number in the run alone.

    Args:
        dataset: The dataset, or its config. Its attributes are those of this one, which
            hooks set as well, such as ``pipeline``.
    """

    def __init__(self, dataset: Dataset | dict) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    def __getattr__(self, name: str) -> Any:
        # Not while it is unpickled, nor what torch asks a dataset for, as __getitems__.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == 'dataset':
            super().__setattr__(name, value)
        else:
            setattr(self.dataset, name, value)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, place: tuple[int, tuple[int, ...]]) -> Any:
        """Give a sample, drawn from the seed that :class:`SeededSampler` gives it."""
        index, numbers = place
        seed_generators(*numbers)
        return self.dataset[index]


def fixed_batch(loader: DataLoader, num: int, seed: int = 0, shard: bool = False) -> Any:
    """Collate samples that are spread over a dataset, the same whenever it is called.

    Args:
        loader: Whose dataset and collate function are used, without worker processes.
        num: Of samples, at most.
        seed: Of what a pipeline draws.
        shard: Whether each process gets a part, of one size in all of them.

    Returns:
        What the loader gives.
    """
    dataset, world = loader.dataset, get_world_size() if shard else 1
    size = len(dataset)  # type: ignore[arg-type]
    num = max(min(num, size) // world, 1)
    places = [
        (i * world + get_rank() * shard) * size // (num * world) for i in range(num)
    ]
    if isinstance(dataset, SeededDataset):
        return loader.collate_fn([dataset[i, (seed, _SAMPLE, i)] for i in places])
    return loader.collate_fn([dataset[i] for i in places])


class SeededSampler(Sampler):
    """A sampler that says which random numbers each of its samples gets.

    Yields ``(index, numbers)``; the numbers are the seed, the epoch and the place of the
    sample in the data of all processes. How a batch is split does not change them where
    the sampler deals out its indices in turn, as mmengine's do.

    Args:
        dataset: The dataset.
        sampler: Config of the sampler.
        seed: Seed of order and samples, the same in all processes.
    """

    def __init__(self, dataset: Dataset, sampler: dict, seed: int) -> None:
        defaults = dict(dataset=dataset, seed=seed)
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=defaults)
        self.seed = seed
        self.epoch = 0
        self._done = 0
        if hasattr(self.sampler, 'skip'):  # for mmengine, which looks whether it is there
            self.skip = self.leave_out

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        done, self._done = self._done, 0
        for place, index in enumerate(islice(self.sampler, done, None), start=done):
            place_of_all = place * get_world_size() + get_rank()
            yield index, (self.seed, _SAMPLE, self.epoch, place_of_all)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides on the order and on the random numbers."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def leave_out(self, num_samples: int) -> None:
        """Leave out the first samples of the next pass; they have been trained on."""
        self._done = num_samples


class SeedHook(Hook):
    """Seed the generators before each iteration of training and evaluation."""

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Let samplers have the seed of a run that is resumed, and its place in an epoch.

        A data loader that was not built from a config restarts the epoch.
        """
        for loop in (runner._train_loop, runner._val_loop):
            if not isinstance(loop, BaseLoop):
                continue
            loader, sampler = loop.dataloader, loop.dataloader.batch_sampler.sampler
            if isinstance(sampler, SeededSampler):
                sampler.seed = sampler.sampler.seed = runner.seed
                if isinstance(loop, EpochBasedTrainLoop):
                    done = runner.iter - runner.epoch * len(loader)
                    sampler.leave_out(done * loader.batch_size)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed with the number of the iteration."""
        seed_generators(runner.seed, _TRAINING, runner.iter, runner.rank)

    def before_val_iter(self, runner: Runner, batch_idx: int, **kwargs: Any) -> None:
        """Seed with the number of the batch, the same in each validation."""
        seed_generators(runner.seed, _EVALUATION, batch_idx, runner.rank)

    before_test_iter = before_val_iter
