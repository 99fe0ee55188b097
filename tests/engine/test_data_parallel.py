# Copyright (c) mmcim contributors. All rights reserved.
"""How a model is wrapped, and that two processes equal one; what is refused."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmcim.engine import data_parallel
from mmcim.engine.data_parallel import refuse_unsupported, wrap_distributed
from mmcim.engine.optimizers import AutoAmpOptimWrapper

from ..models.selfsup.two_processes import assert_two_match_one


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


def clipped_steps(zero_kwargs, model, part):
    optim_wrapper = AutoAmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        accumulative_counts=2,
        clip_grad=dict(max_norm=0.05),
    )
    optim_wrapper.initialize_count_status(model, 0, 5)  # the last step has one half
    for i in range(5):
        target = torch.randn(4, 6, generator=torch.Generator().manual_seed(i))
        with optim_wrapper.optim_context(model):
            loss = (model(images(4)[part]) - target[part]).square().mean()
        optim_wrapper.update_params(loss, zero_kwargs=zero_kwargs)
    assert optim_wrapper.grad_norms['grad_norm'] > 0.05
    if isinstance(model, DistributedDataParallel):
        assert model.gradient_as_bucket_view


@pytest.mark.parametrize('set_to_none', [True, False])
def test_clipping_and_accumulation_in_two_processes_match_one(tmp_path, set_to_none):
    train = partial(clipped_steps, dict(set_to_none=set_to_none))
    start, end = assert_two_match_one(partial(Normed, 0.1), train, tmp_path)
    assert not end['fc.weight'].allclose(start['fc.weight'])


def test_wrapper_arguments_of_the_config_win(monkeypatch):
    monkeypatch.setattr(
        data_parallel, 'MMDistributedDataParallel', lambda model, **kwargs: kwargs
    )
    model, key = nn.Linear(1, 1), 'gradient_as_bucket_view'
    assert wrap_distributed(model, {})[key] is True
    assert wrap_distributed(model, dict(model_wrapper_cfg={key: False}))[key] is False


@pytest.mark.parametrize('sync_bn', [None, 'torch'])
def test_batch_norms_on_cpus_are_those_of_each_process(monkeypatch, sync_bn):
    """PyTorch's synchronised ones refuse tensors of a CPU."""
    monkeypatch.setattr(
        data_parallel, 'MMDistributedDataParallel', lambda model, **_: model
    )
    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3))
    expected = model.state_dict()
    wrapped = wrap_distributed(model, dict(sync_bn=sync_bn))
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in wrapped)
    assert wrapped(images(4)).shape == (4, 3, 5, 5)
    assert wrapped.state_dict().keys() == expected.keys()


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
    with pytest.raises(ValueError, match='strategy .* is not supported'):
        make_runner(strategy=dict(type='FSDPStrategy'))
    make_runner(model_wrapper_cfg=dict(static_graph=True))
