# Copyright (c) mmcim contributors. All rights reserved.
"""Two gloo processes take the steps that one process takes with the whole batch."""

import pickle
import socket

import torch
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from .test_corrim import build, corrim, random_inputs

# Not Adam: biases of keys have no gradient but rounding, which it would blow up.
OPTIM = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05),
)
# Exemplars that are drawn already.
CONFIG = corrim(data_preprocessor=dict(type='BaseDataPreprocessor'))


def steps(model, part, num=3):
    network = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(network, OPTIM)
    inputs = {k: v[part] for k, v in random_inputs(batch_size=4).items()}
    for _ in range(num):
        model.train_step(dict(inputs=inputs), optim)
        network.momentum_encoder.update(network, num_steps=10)


def worker(rank, port, out):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    model = MMDistributedDataParallel(build(CONFIG))
    steps(model, slice(2 * rank, 2 * rank + 2))
    with open(f'{out}/{rank}.pkl', 'wb') as file:
        pickle.dump({k: v.numpy() for k, v in model.module.state_dict().items()}, file)
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    # Forked, the processes need not import torch anew.
    mp.start_processes(worker, (port, tmp_path), nprocs=2, start_method='fork')
    whole = build(CONFIG)
    start = {k: v.clone() for k, v in whole.state_dict().items()}
    steps(whole, slice(0, 4))
    frozen = ('pos_embed', 'projection.weight', 'projection.bias')
    for rank in range(2):
        with open(tmp_path / f'{rank}.pkl', 'rb') as file:
            two = pickle.load(file)
        assert two.keys() == start.keys()
        for key, value in whole.state_dict().items():
            torch.testing.assert_close(
                torch.from_numpy(two[key]), value, atol=2e-6, rtol=1e-4, msg=key
            )
            assert value.equal(start[key]) == key.endswith(frozen), key
