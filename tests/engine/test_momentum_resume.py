# Copyright (c) mmcim contributors. All rights reserved.
"""Pre-trainings with a momentum encoder resume as if they had not been interrupted."""

import uuid
from types import SimpleNamespace

import pytest
import torch

from mmcim.checkpoints import load_checkpoint
from mmcim.utils import build_runner, load_config

ITERATIONS = 4


def train(repo, name, counts, work_dir, checkpoint=None):
    """Four iterations on digits, or the rest after a checkpoint."""
    options = {
        'train_cfg.max_iters': ITERATIONS,
        'param_scheduler': None,
        'train_dataloader.batch_size': 8,
        'optim_wrapper.accumulative_counts': counts,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
        'log_level': 'WARNING',
        'experiment_name': str(uuid.uuid4()),
    }
    cfg = load_config(repo / f'configs/quickstart/{name}.py', options, str(work_dir))
    cfg.resume, cfg.load_from = checkpoint is not None, checkpoint
    # State left by another run in this process must not help.
    torch.manual_seed(7 if checkpoint else 3)
    build_runner(cfg).train()


@pytest.fixture(
    scope='module',
    params=[('corrim', 1), ('corrim', 2), ('conmim', 1), ('dino', 1), ('mocov3', 1)],
    ids=lambda case: '-'.join(map(str, case)),
)
def runs(request, repo, tmp_path_factory):
    """Checkpoints: in the middle, at the end, and at the end of a resumed run."""
    name, counts = request.param
    folder = tmp_path_factory.mktemp('resume')
    train(repo, name, counts, folder / 'whole')
    middle = folder / 'whole/iter_2.pth'
    train(repo, name, counts, folder / 'resumed', str(middle))
    assert not (folder / 'resumed/iter_2.pth').exists()
    return SimpleNamespace(
        middle=load_checkpoint(middle),
        whole=load_checkpoint(folder / 'whole/iter_4.pth'),
        resumed=load_checkpoint(folder / 'resumed/iter_4.pth'),
    )


def test_resumed_weights_are_bit_identical(runs):
    whole, resumed = runs.whole['state_dict'], runs.resumed['state_dict']
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert value.equal(resumed[key]), key


def test_resumed_optimizer_is_bit_identical(runs):
    whole, resumed = runs.whole['optimizer'], runs.resumed['optimizer']
    assert whole['param_groups'] == resumed['param_groups']
    assert whole['state'].keys() == resumed['state'].keys()
    for index, state in whole['state'].items():
        for key, value in state.items():
            assert value.equal(resumed['state'][index][key]), (index, key)


def test_momentum_encoder_updates_after_resume(runs):
    middle, whole = runs.middle['state_dict'], runs.whole['state_dict']
    weights = [
        key
        for key in whole
        if key.startswith('momentum_encoder.') and key.endswith('attn.proj.weight')
    ]
    assert weights
    for key in weights:
        assert not whole[key].equal(middle[key]), key
        assert not whole[key].equal(whole[key.removeprefix('momentum_encoder.')]), key
