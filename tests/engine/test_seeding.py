# Copyright (c) mmcim contributors. All rights reserved.
"""Random numbers depend on the position in a run only."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from mmcim.engine import StrictRunner, seeding
from mmcim.engine.seeding import SeededDataset, SeededSampler, SeedHook, seed_generators


def draw():
    return [random.random(), np.random.rand(), torch.rand((), dtype=torch.double).item()]


class Draws(Dataset):
    """Items hold their index and one draw of each generator."""

    metainfo = dict(classes=('a',))

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.tensor([index, *draw()], dtype=torch.double)


def loader(seed=0, sampler='DefaultSampler', **kwargs):
    return StrictRunner.build_dataloader(
        dict(
            dataset=Draws(),
            sampler=dict(type=sampler, shuffle=True),
            collate_fn=dict(type='default_collate'),
            batch_size=2,
            **{'num_workers': 0, **kwargs},
        ),
        seed=seed,
    )


def test_seed_generators_seeds_all_three():
    found = {}
    for numbers in ((0, 1), (1, 0), (0, 2), (2**40, 1)):
        seed_generators(*numbers)
        found[numbers] = draw()
        draw()
        seed_generators(*numbers)
        assert draw() == found[numbers]
    for kind in zip(*found.values()):
        assert len(set(kind)) == 4


@pytest.mark.parametrize(
    'workers',
    [
        dict(num_workers=1),
        dict(num_workers=3, persistent_workers=True),
        dict(num_workers=2, prefetch_factor=3),
    ],
)
def test_number_of_workers_does_not_change_samples(workers):
    plain, parallel = loader(), loader(**workers)
    for epoch in range(2):
        for one in (plain, parallel):
            one.batch_sampler.sampler.set_epoch(epoch)
        expected = torch.cat(list(plain))
        assert torch.equal(torch.cat(list(parallel)), expected)


def test_draws_differ_between_epochs_samples_and_seeds():
    rows = []
    for seed in (0, 1):
        one = loader(seed)
        for epoch in (0, 1):
            one.batch_sampler.sampler.set_epoch(epoch)
            rows.append(torch.cat(list(one)))
            assert sorted(rows[-1][:, 0].tolist()) == list(range(6))
    numbers = torch.cat(rows)[:, 1:].flatten()
    assert numbers.unique().numel() == 4 * 6 * 3


def test_ranks_split_the_samples_of_one_process(monkeypatch):
    """Two processes draw the same as one for each position of the order."""
    whole = torch.cat(list(loader()))
    parts = []
    for rank in range(2):
        monkeypatch.setattr(
            'mmengine.dataset.sampler.get_dist_info', lambda r=rank: (r, 2)
        )
        monkeypatch.setattr(seeding, 'get_rank', lambda r=rank: r)
        monkeypatch.setattr(seeding, 'get_world_size', lambda: 2)
        parts.append(torch.cat(list(loader())))
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), whole)


def drawn(stage='train', rank=0, iter=0, batch=0):
    """What a process draws in an iteration."""
    runner = SimpleNamespace(seed=7, rank=rank, iter=iter)
    getattr(SeedHook(), f'before_{stage}_iter')(runner, batch)
    return draw()


@pytest.mark.parametrize('stage', ['train', 'val', 'test'])
def test_each_process_draws_numbers_of_its_own(stage):
    first, second = (drawn(stage, rank) for rank in (0, 1))
    assert not set(first) & set(second)


def test_seed_depends_on_iteration_or_batch():
    assert drawn(iter=5, batch=1) == drawn(iter=5, batch=2) != drawn(iter=6, batch=1)
    for stage in ('val', 'test'):
        first = drawn(stage, iter=5, batch=1)
        assert first == drawn(stage, iter=6, batch=1) != drawn(stage, iter=5, batch=2)
    assert drawn(iter=1) != drawn('val', batch=1)


def test_sampler_can_skip_samples():
    one = loader()
    expected = torch.cat(list(one))
    one.batch_sampler.sampler.leave_out(4)
    assert torch.equal(torch.cat(list(one)), expected[4:])
    assert torch.equal(torch.cat(list(one)), expected)  # only once


def test_infinite_sampler_can_skip_samples():
    first, second = (iter(loader(sampler='InfiniteSampler')) for _ in range(2))
    expected = [next(first) for _ in range(9)]
    later = loader(sampler='InfiniteSampler')
    later.batch_sampler.sampler.skip(10)
    later = iter(later)
    assert all(torch.equal(next(later), batch) for batch in expected[5:])
    assert torch.equal(next(second), expected[0])


def test_validation_after_resume_uses_resumed_seed(make_runner, tmp_path):
    first = make_runner(scores=[1, 2], work_dir=tmp_path / 'a', randomness=dict(seed=3))
    first.train()
    again = make_runner(
        scores=[1, 2],  # the first of them made up
        work_dir=tmp_path / 'b',
        randomness=dict(seed=4),
        load_from=str(tmp_path / 'a/epoch_1.pth'),
        resume=True,
    )
    again.train()
    samples = [
        torch.cat([batch['inputs'] for batch in runner.val_dataloader])
        for runner in (first, again)
    ]
    assert torch.equal(*samples)


def test_skipping_is_offered_only_where_supported():
    """mmengine checks by hasattr, and otherwise advances batch by batch."""
    for name, can in dict(DefaultSampler=False, InfiniteSampler=True).items():
        sampler = SeededSampler(Draws(), dict(type=name), seed=0)
        assert hasattr(sampler, 'skip') == can


def test_wrapper_forwards_attribute_reads():
    dataset = SeededDataset(Draws())
    assert dataset.metainfo == dict(classes=('a',)) and len(dataset) == 6
    with pytest.raises(AttributeError, match='full_init'):
        dataset.full_init()


def test_wrapper_forwards_attribute_writes():
    """Hooks that switch the pipeline during training do so."""
    dataset = SeededDataset(Draws())
    dataset.pipeline = 'new'
    assert dataset.dataset.pipeline == dataset.pipeline == 'new'
    dataset.dataset = Draws()
    assert not hasattr(dataset, 'pipeline')


def test_dataset_with_getitems():
    """torch prefers ``__getitems__``, which would bypass the seeds."""
    subset = torch.utils.data.Subset(Draws(), [4, 1, 3])
    one = StrictRunner.build_dataloader(
        dict(dataset=subset, sampler=dict(type='DefaultSampler'), batch_size=3)
        | dict(collate_fn=dict(type='default_collate'), num_workers=0),
    )
    assert sorted(torch.cat(list(one))[:, 0].tolist()) == [1, 3, 4]
