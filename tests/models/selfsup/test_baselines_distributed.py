# Copyright (c) mmcim contributors. All rights reserved.
"""MoCo v3 contrasts with the pictures of all processes: two of them equal one."""

import pickle
import socket

import torch
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from .test_baselines import build, mocov3

OPTIM = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05),
)
# Without batch statistics, which gloo cannot share, and with views made already.
CONFIG = mocov3()
for projector in (CONFIG['neck'], CONFIG['head']['predictor']):
    projector.update(norm_cfg=dict(type='LN'), with_last_bn=False)
CONFIG['data_preprocessor'] = dict(type='BaseDataPreprocessor')


def steps(model, part, num=3):
    network = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(network, OPTIM)
    images, views = torch.randn(
        2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1)
    )
    for _ in range(num):
        model.train_step(dict(inputs=dict(images=images[part], views=views[part])), optim)
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
