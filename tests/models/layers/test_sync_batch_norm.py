# Copyright (c) mmcim contributors. All rights reserved.
"""Two processes that share a GPU, each with a part of the batch, against all of it."""

import pickle

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from mmcim.engine.data_parallel import wrap_distributed
from mmcim.models.layers import SyncBatchNorm

from ..selfsup.two_processes import free_port

# Images of the two processes; a batch of theirs may be of another size.
PARTS = slice(0, 5), slice(5, 8)
CASES = dict(
    images=dict(shape=(8, 6, 4, 4), affine=True),
    channels_last=dict(shape=(8, 6, 4, 4), affine=True),
    features=dict(shape=(8, 6), affine=False),
)


def network(case):
    shape, affine = CASES[case]['shape'], CASES[case]['affine']
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    norm = kind(shape[1], affine=affine)
    if affine:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    return nn.Sequential(nn.Identity(), norm)


def step(net, case, part):
    """Output, gradient of the input, and statistics, from a sum over the images."""
    torch.manual_seed(1)
    x = torch.randn(CASES[case]['shape']) * 3 + 2
    weight = torch.randn_like(x)[part].cuda()
    x = x[part].cuda()
    if case == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = net(x)
    (weight * y**2).sum().backward()
    return y.detach().cpu(), x.grad.cpu()


def work(rank, case, port, folder):
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    torch.manual_seed(0)
    net = nn.SyncBatchNorm.convert_sync_batchnorm(network(case)).cuda()
    if CASES[case]['affine']:
        net = wrap_distributed(net, {}).module
    else:  # nothing to train
        net[1].__class__ = SyncBatchNorm
    assert type(net[1]) is SyncBatchNorm
    found = step(net, case, PARTS[rank])
    state = {k: v.cpu() for k, v in net.state_dict().items()}
    with open(f'{folder}/{rank}.pkl', 'wb') as file:
        pickle.dump((*found, state), file)
    torch.distributed.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.parametrize('case', CASES)
def test_two_processes_match_the_whole_batch(case, tmp_path):
    mp.spawn(work, (case, free_port(), tmp_path), nprocs=2)
    torch.manual_seed(0)
    net = network(case).cuda()
    y, grad = step(net, case, slice(0, 8))
    for rank, part in enumerate(PARTS):
        with open(tmp_path / f'{rank}.pkl', 'rb') as file:
            found_y, found_grad, state = pickle.load(file)
        torch.testing.assert_close(found_y, y[part], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found_grad, grad[part], atol=1e-4, rtol=1e-4)
        for key, value in net.state_dict().items():
            torch.testing.assert_close(state[key], value.cpu())


@pytest.mark.parametrize(
    ('settings', 'alike'),
    [({}, True), (dict(momentum=None), False), (dict(track_running_stats=False), False)],
)
def test_other_batch_norms_stay_pytorchs(settings, alike):
    assert SyncBatchNorm.is_like(nn.SyncBatchNorm(4, **settings)) == alike
