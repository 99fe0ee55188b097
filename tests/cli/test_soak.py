# Copyright (c) mmcim contributors. All rights reserved.
"""Runs that are killed again and again end bit-identical with those that are not."""

import random
import signal

import pytest

from mmcim.checkpoints import load_checkpoint

from .test_train import same
from .toy_run import run_forked

pytestmark = pytest.mark.slow

KILLS = 3  # of each run
STEPS = 48
# A thread kills the process after a random part of an iteration, chosen at random.
KILL = """
import os, signal, threading, time
from mmengine.runner import Runner
call_hook = Runner.call_hook
def counted(self, name, **kwargs):
    call_hook(self, name, **kwargs)
    if name == 'before_train_iter' and self.iter == {step}:
        def kill():
            time.sleep({delay})
            os.kill(os.getpid(), signal.SIGKILL)
        threading.Thread(target=kill, daemon=True).start()
Runner.call_hook = counted
"""
TRAIN_CFG = {
    'epochs': 'train_cfg = dict(by_epoch=True, max_epochs=12)',
    'iterations': f'train_cfg = dict(_delete_=True, by_epoch=False, max_iters={STEPS})',
}
LOOPS = {
    'epochs': ['param_scheduler.end=12'],
    'iterations': [
        'train_dataloader.sampler.type=InfiniteSampler',
        'param_scheduler.by_epoch=False',
        'param_scheduler.convert_to_iter_based=False',
        f'param_scheduler.end={STEPS}',
    ],
}


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('loop', LOOPS)
def test_killed_runs(toy, tmp_path, loop, workers):
    """Kills at random moments, mostly within an epoch of four iterations."""
    config = tmp_path / 'soak.py'
    config.write_text(f'_base_ = {str(toy.config)!r}\n{TRAIN_CFG[loop]}')
    options = [
        *LOOPS[loop],
        f'train_dataloader.num_workers={workers}',
        f'train_dataloader.persistent_workers={workers > 0}',
        'default_hooks.checkpoint.by_epoch=False',
        'default_hooks.checkpoint.interval=3',
    ]
    cases, before = {}, {}
    draw = random.Random(f'{loop} {workers}')
    for kill, step in enumerate(sorted(draw.sample(range(4, STEPS - 4), KILLS))):
        cases[f'kill_{kill}'] = ['--resume']
        before[f'kill_{kill}'] = KILL.format(step=step, delay=draw.uniform(0, 0.05))
    cases |= dict(last=['--resume'], whole=[])
    cases = {
        name: [
            'train.py',
            config,
            '--no-validate',
            *resume,
            *('--work-dir', tmp_path / ('whole' if name == 'whole' else 'killed')),
            *('--cfg-options', *options),
        ]
        for name, resume in cases.items()
    }
    results = run_forked(cases, cwd=tmp_path, before=before)
    codes = [result.code for result in results.values()]
    assert codes == [-signal.SIGKILL] * KILLS + [0, 0], results['last'].output
    whole, killed = (
        load_checkpoint(tmp_path / name / f'iter_{STEPS}.pth')
        for name in ('whole', 'killed')
    )
    assert whole['meta']['iter'] == killed['meta']['iter'] == STEPS
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(whole[key], killed[key]), key
