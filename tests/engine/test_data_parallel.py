# Copyright (c) mmcim contributors. All rights reserved.
"""Batch norm over two processes against PyTorch's over the whole batch."""

from functools import partial

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from mmcim.engine.data_parallel import (
    SyncBatchNorm,
    refuse_unsupported,
    synchronize_batch_norms,
)

from ..models.selfsup.two_processes import assert_two_match_one, free_port


def images(num):
    generator = torch.Generator().manual_seed(1)
    return 3 + 2 * torch.randn(num, 3, 5, 5, generator=generator)


class Normed(nn.Module):
    """1-D and 2-D batch norms between trained layers."""

    def __init__(self, momentum):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, momentum=momentum)
        self.fc = nn.Linear(36, 6)
        self.last_norm = nn.BatchNorm1d(6, affine=False, momentum=momentum)

    def forward(self, images):
        x = self.norm(self.conv(images)).relu()
        return self.last_norm(self.fc(x.flatten(1)))


def steps(model, part):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    target = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    for _ in range(3):
        loss = (model(images(4)[part]) - target[part]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.isfinite(loss)


@pytest.mark.parametrize('momentum', [0.1, None])
def test_two_processes_match_one(tmp_path, momentum):
    start, end = assert_two_match_one(partial(Normed, momentum), steps, tmp_path)
    # A bias in front of a norm changes by rounding only.
    still = {name for name, value in end.items() if value.allclose(start[name])}
    assert still <= {'conv.bias', 'fc.bias'}


def test_sync_batch_norm_in_one_process_is_batch_norm():
    torch.manual_seed(0)
    plain, synchronised = nn.BatchNorm2d(3), SyncBatchNorm(3)
    for mode in (True, False):
        plain.train(mode), synchronised.train(mode)
        assert synchronised(images(4)).equal(plain(images(4)))
    assert synchronised.running_var.equal(plain.running_var)


def in_process_group(rank, port, world_size, batch, folder):
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=world_size
    )
    try:
        SyncBatchNorm(3)(torch.randn(batch, 3))
        outcome = 'normalized'
    except ValueError as error:
        outcome = str(error)
    (folder / f'{rank}.txt').write_text(outcome)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('world_size', 'batch', 'outcome'),
    [
        (1, 1, 'Expected more than 1 value per channel'),
        (1, 0, 'SyncBatchNorm got an empty batch'),
        (2, 0, 'SyncBatchNorm got an empty batch'),
        (2, 1, 'normalized'),
    ],
)
def test_single_value_per_channel_raises(tmp_path, world_size, batch, outcome):
    arguments = (free_port(), world_size, batch, tmp_path)
    mp.start_processes(in_process_group, arguments, world_size, start_method='fork')
    for rank in range(world_size):
        assert outcome in (tmp_path / f'{rank}.txt').read_text()


@pytest.mark.parametrize('everywhere', [True, False])
def test_conversion_keeps_tensors_and_hooks(everywhere):
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.Sequential(nn.SyncBatchNorm(3)), nn.ReLU()
    )
    sizes, tensors = [], list(model.state_dict(keep_vars=True).values())
    model[1][0].register_forward_hook(lambda m, i, output: sizes.append(output.shape))
    synchronize_batch_norms(model, everywhere)
    found = [isinstance(module, SyncBatchNorm) for module in (*model, model[1][0])]
    assert found == [everywhere, False, False, True]
    assert all(map(torch.Tensor.is_set_to, model.state_dict().values(), tensors))
    model(images(4))
    assert sizes == [(4, 3, 5, 5)]


@pytest.mark.parametrize(
    ('cfg', 'launcher', 'message'),
    [
        ({}, 'mpi', 'launcher=mpi is not supported'),
        (dict(compile=True), 'none', 'compile is not supported'),
        (dict(strategy=dict(type='FSDPStrategy')), 'none', 'strategy .* not supported'),
        (
            dict(model_wrapper_cfg=dict(type='MMFullyShardedDataParallel')),
            'pytorch',
            'model_wrapper_cfg.type=MMFullyShardedDataParallel is not supported',
        ),
        (
            dict(optim_wrapper=dict(type='DeepSpeedOptimWrapper')),
            'none',
            'optim_wrapper.type=DeepSpeedOptimWrapper is not supported',
        ),
    ],
)
def test_unsupported_settings_raise(cfg, launcher, message):
    with pytest.raises(ValueError, match=message):
        refuse_unsupported(cfg, launcher)


def test_runner_checks_unsupported_settings(make_runner):
    with pytest.raises(ValueError, match='compile is not supported'):
        make_runner(compile=True)
    make_runner(compile=False, model_wrapper_cfg=dict(static_graph=True))
