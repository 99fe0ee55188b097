# Copyright (c) mmcim contributors. All rights reserved.
"""Two gloo processes take the step that one process takes with the whole batch."""

import pickle
import socket

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from .conftest import revdet

OPTIM = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=0.1),
)


def batch():
    """Four pictures, masks of different sizes."""
    torch.manual_seed(3)
    samples = []
    for share in (0.2, 0.4, 0.6, 0.8):
        sample = DataSample()
        sample.set_field((torch.rand(4, 4) < share).numpy(), 'mask')
        sample.mask[0, 0] = True
        samples.append(sample)
    inputs = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    return dict(inputs=inputs, data_samples=samples)


def steps(model, config, part, num=3):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(getattr(model, 'module', model), config)
    data = batch()
    data = dict(inputs=data['inputs'][part], data_samples=data['data_samples'][part])
    for _ in range(num):
        model.train_step(data, optim)


def build(config):
    torch.manual_seed(1)
    model = MODELS.build(config)
    model.init_weights()
    return model


def worker(rank, config, port, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    model = MMDistributedDataParallel(build(config))
    steps(model, OPTIM, slice(2 * rank, 2 * rank + 2))
    with open(f'{out}/{rank}.pkl', 'wb') as file:
        pickle.dump({k: v.numpy() for k, v in model.module.state_dict().items()}, file)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('objective', ['respix', 'revdet'])
def test_two_processes_equal_one(configs, tmp_path, objective):
    if objective == 'revdet':
        configs['enhancer'] = revdet()
    # Fixed masks and samples: masks from the data, the likeliest tokens, no flips.
    configs.update(masking=None, generator={**configs['generator'], 'sampling': 'argmax'})
    configs['data_preprocessor']['flip_prob'] = 0
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    # Forked, the processes know the test's tokenizer and need not import torch anew.
    mp.start_processes(worker, (configs, port, tmp_path), nprocs=2, start_method='fork')
    whole = build(configs)
    start = {k: v.clone() for k, v in whole.state_dict().items()}
    steps(whole, OPTIM, slice(0, 4))
    for rank in range(2):
        with open(tmp_path / f'{rank}.pkl', 'rb') as file:
            two = pickle.load(file)
        assert two.keys() == start.keys()
        moved = 0
        for key, value in whole.state_dict().items():
            torch.testing.assert_close(
                torch.from_numpy(two[key]), value, atol=2e-6, rtol=1e-4, msg=key
            )
            moved += not value.equal(start[key])
        assert moved == len(list(whole.parameters()))
