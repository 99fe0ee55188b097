# Copyright (c) mmcim contributors. All rights reserved.
"""The quickstart as a process, with a few iterations per training."""

import json
import re

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
        expected = {'linear_top1', 'finetune_top1'}
        # Folders of classes have no labels of pixels.
        expected |= {'segmentation_miou'} if name == 'digits' else set()
        assert set(row) == expected
        for metric in row.values():
            assert len(metric['seeds']) == 3
            assert all(0 <= value <= 100 for value in metric['seeds'])
            assert metric['mean'] == pytest.approx(np.mean(metric['seeds']), abs=0.02)
    with Image.open(folder / work_dir / 'pictures.png') as picture:
        assert picture.width > 7 * 96 and picture.height > 8 * 64


def test_backbones_arrive(runs):
    folder, _ = runs
    log = (folder / 'work_dirs/quickstart/console.log').read_text()
    reports = re.findall(r'Backbone weights: (\d+) of (\d+) tensors matched(.*)', log)
    # Probe, fine-tuning and segmentation of two rows with three seeds.
    assert len(reports) == 18
    assert all(matched == total for matched, total, _ in reports)
    # Scenes are twice as large as the pictures of the pre-training.
    assert sum('pos_embed 37 -> 145' in rest for _, _, rest in reports) == 6


@pytest.mark.parametrize('name', ['nothing', 'single'])
def test_bad_folders(runs, name):
    _, results = runs
    assert results[name].code == 2
    assert '--data-root' in results[name].output
    assert 'Traceback' not in results[name].output
