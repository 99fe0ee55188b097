# Copyright (c) mmcim contributors. All rights reserved.
"""The quickstart as a process, with a few iterations per training."""

import json

import numpy as np
import pytest
from PIL import Image

from .toy_run import run_forked

SHORT = [
    '--cfg-options',
    'train_cfg.max_iters=2',
    'param_scheduler=None',
    'default_hooks.logger.interval=1',
]
ROWS = ('scratch', 'cim_respix', 'cim_revdet')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('quickstart')
    random = np.random.default_rng(0)
    for name in 'abc':
        (folder / 'own' / name).mkdir(parents=True)
        for i in range(40):
            pixels = random.integers(0, 256, (48, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / 'own' / name / f'{i}.png')
    (folder / 'single' / 'one').mkdir(parents=True)
    cases = {
        'digits': ['quickstart.py', *SHORT],
        'own': ['quickstart.py', '--data-root', 'own', '--work-dir', 'mine', *SHORT],
        'nothing': ['quickstart.py', '--data-root', 'nowhere'],
        'single': ['quickstart.py', '--data-root', 'single'],
    }
    return folder, run_forked(cases, folder)


@pytest.mark.parametrize(
    ('name', 'work_dir'), [('digits', 'work_dirs/quickstart'), ('own', 'mine')]
)
def test_four_steps(runs, name, work_dir):
    folder, results = runs
    output = results[name].output
    assert results[name].code == 0, output
    for step in range(1, 5):
        assert f'Step {step} of 4' in output
    assert 'eta' in output and 'psnr' in output and 'loss_pix' in output
    assert all(row in output.split('Step 4 of 4')[1] for row in ROWS)

    summary = json.loads((folder / work_dir / 'summary.json').read_text())
    assert tuple(summary) == ROWS
    for row in summary.values():
        assert set(row) == {'linear_top1', 'finetune_top1'}
        for metric in row.values():
            assert len(metric['seeds']) == 3
            assert all(0 <= value <= 100 for value in metric['seeds'])
            assert metric['mean'] == pytest.approx(np.mean(metric['seeds']), abs=0.02)
    with Image.open(folder / work_dir / 'pictures.png') as picture:
        assert picture.width > 7 * 96 and picture.height > 8 * 64


def test_backbones_arrive_in_the_probe(runs):
    """The probe of a pre-trained row differs from that of random weights."""
    folder, _ = runs
    log = (folder / 'work_dirs/quickstart/console.log').read_text()
    assert log.count('enhancer.backbone.') >= 6  # two rows with three seeds


@pytest.mark.parametrize('name', ['nothing', 'single'])
def test_bad_folders(runs, name):
    _, results = runs
    assert results[name].code == 2
    assert '--data-root' in results[name].output
    assert 'Traceback' not in results[name].output
