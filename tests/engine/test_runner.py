# Copyright (c) mmcim contributors. All rights reserved.
"""Exact resume anywhere; loading all or nothing is in tests/cli/test_train.py."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmcim.checkpoints import load_checkpoint
from mmcim.engine import StrictRunner
from mmcim.engine import runner as runner_module
from mmcim.utils import ConfigError

from .conftest import Line

LOOPS = dict(
    epochs=dict(
        train_cfg=dict(by_epoch=True, max_epochs=3),
        sampler='DefaultSampler',
        batch_size=2,
    ),
    named_epochs=dict(
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3),
        sampler='DefaultSampler',
        batch_size=2,
    ),
    iterations=dict(
        train_cfg=dict(by_epoch=False, max_iters=12),
        sampler='InfiniteSampler',
        batch_size=2,
    ),
)
WORKERS = {
    'none': {},
    'two': dict(num_workers=2),
    'persistent': dict(num_workers=2, persistent_workers=True),
}
EVERY_ITERATION = dict(
    type='SafeCheckpointHook', interval=1, by_epoch=False, max_keep_ckpts=-1
)


def run(make_runner, loop, workers, work_dir, **kwargs):
    settings = {k: v.copy() if k == 'train_cfg' else v for k, v in LOOPS[loop].items()}
    runner = make_runner(
        checkpoint=dict(EVERY_ITERATION),
        workers=WORKERS[workers],
        work_dir=work_dir,
        **settings,
        **kwargs,
    )
    runner.train()
    return [p.detach().clone() for p in runner.model.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize('workers', WORKERS)
@pytest.mark.parametrize('loop', LOOPS)
def test_resumed_run_matches_uninterrupted_run(make_runner, tmp_path, loop, workers):
    """Resumed at the end of an epoch (4 iterations), within one, and near the end."""
    expected = run(make_runner, loop, 'none', tmp_path / 'whole')
    for step in (2, 4, 7, 11):
        again = run(
            make_runner,
            loop,
            workers,
            tmp_path / f'from_{step}',
            load_from=str(tmp_path / f'whole/iter_{step}.pth'),
            resume=True,
        )
        for a, b in zip(expected, again, strict=True):
            assert torch.equal(a, b), step


@pytest.mark.parametrize('loop', LOOPS)
def test_random_seed_survives_resume(make_runner, tmp_path, loop):
    """Without a seed in the config the run draws one."""
    drawn = dict(seed=None, diff_rank_seed=True)
    expected = run(make_runner, loop, 'none', tmp_path / 'a', randomness=dict(drawn))
    again = run(
        make_runner,
        loop,
        'none',
        tmp_path / 'b',
        randomness=dict(drawn),
        load_from=str(tmp_path / 'a/iter_3.pth'),
        resume=True,
    )
    for a, b in zip(expected, again, strict=True):
        assert torch.equal(a, b)


def test_all_processes_have_the_same_seed(make_runner, monkeypatch):
    """To which mmengine would add the rank."""
    monkeypatch.setattr('mmengine.runner.utils.get_rank', lambda: 1)
    assert make_runner(randomness=dict(seed=3, diff_rank_seed=True)).seed == 3


def test_checkpoints_carry_no_random_state(make_runner, tmp_path):
    run(make_runner, 'epochs', 'none', tmp_path)
    checkpoint = load_checkpoint(tmp_path / 'iter_4.pth')
    assert set(checkpoint) == {
        'meta', 'state_dict', 'message_hub', 'optimizer', 'param_schedulers'
    } - ({'param_schedulers'} - checkpoint.keys())  # fmt: skip
    assert 'rng' not in str(checkpoint['meta'])


def test_validation_does_not_change_training(make_runner, tmp_path):
    with_val = run(make_runner, 'epochs', 'none', tmp_path / 'a', scores=[1, 2, 3])
    without = run(make_runner, 'epochs', 'none', tmp_path / 'b')
    for a, b in zip(with_val, without, strict=True):
        assert torch.equal(a, b)


def test_checkpoint_of_another_model_raises(make_runner, tmp_path):
    run(make_runner, 'epochs', 'none', tmp_path / 'a')
    checkpoint = load_checkpoint(tmp_path / 'a/iter_4.pth')
    checkpoint['state_dict']['line.extra'] = torch.zeros(3)
    del checkpoint['state_dict']['line.bias']
    torch.save(checkpoint, tmp_path / 'other.pth')
    with pytest.raises(ConfigError, match='2 tensors differ') as error:
        run(
            make_runner,
            'epochs',
            'none',
            tmp_path / 'b',
            load_from=str(tmp_path / 'other.pth'),
            resume=True,
        )
    for part in (
        'other.pth',
        'line.extra is (3,)',
        'line.bias is None in the checkpoint',
        'load_from',
    ):
        assert part in str(error.value)


def test_prebuilt_dataloader_is_accepted(make_runner):
    """It is used as it is, and epochs restart from their beginning."""
    runner = make_runner()
    dataset = runner._train_dataloader['dataset']
    runner._train_dataloader = torch.utils.data.DataLoader(dataset, batch_size=4)
    runner.train()
    assert (runner.epoch, runner.iter) == (2, 4)


def test_settings_of_workers_without_workers(make_runner):
    workers = dict(num_workers=0, persistent_workers=True, prefetch_factor=2)
    make_runner(workers=workers).train()


def test_config_from_a_string_is_written(make_runner, tmp_path):
    """It has the name of a file that is gone."""
    runner = make_runner()
    runner.cfg = Config.fromstring('# why\nvalue = 1\n', '.py')
    runner.train()
    written = Config.fromfile(tmp_path / Path(runner.cfg.filename).name)
    assert written.value == 1


def test_several_optimizers_raise(make_runner):
    parameter = torch.nn.Parameter(torch.zeros(1))
    wrapper = OptimWrapper(torch.optim.SGD([parameter], lr=0.1))
    with pytest.raises(ConfigError, match='auto_scale_lr: .*OptimWrapperDict'):
        make_runner(optim_wrapper=OptimWrapperDict(a=wrapper)).train()


def test_configs_use_strict_runner(repo):
    from mmengine.config import Config

    for name in (
        'cim/vit-b_8xb256-300e',
        'segmentation/vit-b_upernet_8xb2-160k_ade20k-512x512',
    ):
        cfg = Config.fromfile(repo / f'configs/{name}.py', import_custom_modules=False)
        assert RUNNERS.get(cfg.runner_type) is StrictRunner
    assert issubclass(StrictRunner, Runner)


def test_batches_are_copied_to_a_gpu_without_waiting(make_runner, monkeypatch):
    runner = make_runner()
    preprocessor = runner.model.data_preprocessor
    assert not preprocessor._non_blocking
    assert not runner.train_dataloader.pin_memory
    config = dict(runner.cfg.get('train_dataloader') or runner._train_dataloader)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    runner.wrap_model(None, runner.model)
    assert preprocessor._non_blocking
    assert runner.build_dataloader(config).pin_memory
    assert not runner.build_dataloader({**config, 'pin_memory': False}).pin_memory


@pytest.mark.parametrize('channels_last', [False, True])
def test_channels_last(make_runner, channels_last, tmp_path):
    model = Line()
    model.conv = torch.nn.Conv2d(3, 4, 3)
    make_runner(model=model, channels_last=channels_last).train()
    weight = model.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert weight.is_contiguous() != channels_last


def test_tf32_is_set_and_recorded(make_runner, monkeypatch):
    set_to = []
    monkeypatch.setattr(runner_module, 'set_tf32', set_to.append)
    runner = make_runner(
        env_cfg=dict(tf32='all'), train_cfg=dict(by_epoch=True, max_epochs=1)
    )
    assert set_to == ['all']
    runner.cfg.env_cfg = dict(tf32='all')  # as from_cfg keeps it
    runner.train()
    assert runner.record['environment']['tf32'] == 'all'
