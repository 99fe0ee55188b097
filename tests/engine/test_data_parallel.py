# Copyright (c) mmcim contributors. All rights reserved.
"""Batch norm over two processes against PyTorch's over the whole batch."""

from functools import partial

import pytest
import torch
from torch import nn

from mmcim.engine.data_parallel import (
    CpuSyncBatchNorm,
    refuse_unsupported,
    synchronize_on_cpus,
)

from ..models.selfsup.two_processes import assert_two_equal_one


def images(num):
    generator = torch.Generator().manual_seed(1)
    return 3 + 2 * torch.randn(num, 3, 5, 5, generator=generator)


class Normed(nn.Module):
    """Norms of one and of two dimensions, in the midst of layers that learn."""

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
def test_two_processes_equal_one(tmp_path, momentum):
    start, end = assert_two_equal_one(partial(Normed, momentum), steps, tmp_path)
    # The bias of what is normalised afterwards moves by rounding alone.
    still = {name for name, value in end.items() if value.allclose(start[name])}
    assert still <= {'conv.bias', 'fc.bias'}


def test_without_other_processes_it_is_a_batch_norm():
    torch.manual_seed(0)
    plain, synchronised = nn.BatchNorm2d(3), CpuSyncBatchNorm(3)
    for mode in (True, False):
        plain.train(mode), synchronised.train(mode)
        assert synchronised(images(4)).equal(plain(images(4)))
    assert synchronised.running_var.equal(plain.running_var)


@pytest.mark.parametrize('everywhere', [True, False])
def test_what_is_synchronised_keeps_tensors_and_hooks(everywhere):
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.Sequential(nn.SyncBatchNorm(3)), nn.ReLU()
    )
    sizes, tensors = [], list(model.state_dict(keep_vars=True).values())
    model[1][0].register_forward_hook(lambda m, i, output: sizes.append(output.shape))
    synchronize_on_cpus(model, everywhere)
    found = [isinstance(module, CpuSyncBatchNorm) for module in (*model, model[1][0])]
    assert found == [everywhere, False, False, True]
    assert all(map(torch.Tensor.is_set_to, model.state_dict().values(), tensors))
    model(images(4))
    assert sizes == [(4, 3, 5, 5)]


@pytest.mark.parametrize(
    ('cfg', 'launcher', 'message'),
    [
        ({}, 'mpi', 'launcher=mpi is not supported'),
        pytest.param(
            {},
            'slurm',
            'launcher=slurm without a GPU is not supported',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='has a GPU'),
        ),
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
def test_what_is_refused(cfg, launcher, message):
    with pytest.raises(ValueError, match=message):
        refuse_unsupported(cfg, launcher)


def test_the_runner_refuses(make_runner):
    with pytest.raises(ValueError, match='compile is not supported'):
        make_runner(compile=True)
    make_runner(compile=False, model_wrapper_cfg=dict(static_graph=True))
