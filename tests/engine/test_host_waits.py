# Copyright (c) mmcim contributors. All rights reserved.
"""Where the host would wait for a GPU; every method at the size of the quickstart."""

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import RUNNERS

from mmcim.engine.host_waits import HostWaits, HostWaitsHook

from .test_watch import METHODS, REPO, tiny

X = torch.arange(4.0)
SIMCLR = REPO / 'configs/baselines/resnet50_simclr_8xb256-300e.py'


@pytest.mark.parametrize('call', [
    lambda: X.sum().item(),
    lambda: bool(X.any()),
    lambda: X[X > 1],
    lambda: X.nonzero(),
    lambda: X.unique(),
    lambda: X.masked_select(X > 1),
    lambda: torch.repeat_interleave(torch.tensor([1, 2])),
    lambda: X.clone().__setitem__(X > 1, X[2:]),
])  # fmt: skip
def test_waits_are_counted_with_their_place(call):
    with HostWaits() as waits:
        call()
    assert sum(waits.places.values()) >= 1
    assert all('test_host_waits.py' in place for place in waits.places)


@pytest.mark.parametrize('call', [
    lambda: X.sum() + X[1:2],
    lambda: X[torch.tensor([1, 2])],
    lambda: X.where(X > 1, 0),
    lambda: torch.repeat_interleave(torch.tensor([1, 2]), output_size=3),
    lambda: X.double(),
])  # fmt: skip
def test_other_operations_are_not_counted(call):
    with HostWaits() as waits:
        call()
    assert not waits.places


@pytest.mark.gpu
def test_copies_between_devices_are_counted():
    x = torch.ones(2, device='cuda')
    with HostWaits() as waits:
        x.cpu()
        X.cuda()
        X.pin_memory().to('cuda', non_blocking=True)
    assert sum(waits.places.values()) == 2


@pytest.mark.parametrize('name', [name for name in METHODS if name != 'tokenizer'])
def test_pre_training_waits_for_nothing_between_logged_lines(name, tmp_path):
    cfg = tiny(name, tmp_path)
    if name.startswith('resnet_'):
        cfg.optim_wrapper = Config.fromfile(SIMCLR).optim_wrapper  # with LARS
    cfg.train_cfg.max_iters = 4
    cfg.default_hooks.logger.interval = cfg.default_hooks.watch.interval = 100
    runner = RUNNERS.get(cfg.runner_type).from_cfg(cfg)
    hook = HostWaitsHook()
    runner.register_hook(hook)
    runner.train()
    assert not hook.waits.places, hook.waits.places
