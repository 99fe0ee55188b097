# Copyright (c) mmcim contributors. All rights reserved.
"""The quickstart as a process, with a few iterations per training."""

import json
import re

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

import mmcim_cli
from mmcim.cli import quickstart

from .toy_run import run_forked

pytestmark = pytest.mark.slow

SHORT = [
    '--cfg-options',
    'train_cfg.max_iters=2',
    'param_scheduler=None',
    'default_hooks.logger.interval=1',
]
ROWS = ('scratch', 'cim_respix', 'cim_revdet')
TITLES = ('random weights', 'CIM-ResPix', 'CIM-RevDet')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('quickstart')
    return folder, run_forked({'digits': ['quickstart.py', *SHORT]}, folder)


def check_summary(folder, tasks):
    summary = json.loads((folder / 'summary.json').read_text())
    assert tuple(summary) == ROWS
    for row in summary.values():
        assert set(row) == tasks
        for seeds in row.values():
            assert len(seeds) == 3
            assert all(0 <= value <= 100 for value in seeds)


def test_whole_quickstart(runs):
    folder, results = runs
    output = results['digits'].output
    assert results['digits'].code == 0, output
    jobs = ('tokenizer', 'cim_respix', 'cim_revdet', 'images', 'cim_revdet, seed 2')
    for job in jobs:
        assert f'\n{job}: done\n' in output
    summary = json.loads((folder / 'work_dirs/quickstart/summary.json').read_text())
    mean = np.mean(summary['scratch']['finetune'])
    assert re.search(rf'random weights .* {mean:.1f} \(', output)
    assert '\ncim_respix: Training CIM' in output  # of 2 iterations some may go unseen
    assert all(title in output.split(': done\n')[-1] for title in TITLES)
    folder = folder / 'work_dirs/quickstart'
    check_summary(folder, {'linear_probe', 'finetune'})
    with Image.open(folder / 'images.png') as image:
        assert image.width > 9 * 96 and image.height > 8 * 64


def test_backbone_weights_load(runs):
    folder, _ = runs
    logs = (folder / 'work_dirs/quickstart/evaluation').glob('*/console.log')
    log = ''.join(path.read_text() for path in logs)
    reports = re.findall(r'Backbone weights: (\d+) of (\d+) tensors matched', log)
    # Probe and fine-tuning of two rows with three seeds.
    assert len(reports) == 12
    assert all(matched == total for matched, total in reports)


def test_seeds_choose_labels_and_initial_weights(runs):
    folder, _ = runs
    seeds = []
    for seed in range(3):
        to = folder / f'work_dirs/quickstart/evaluation/scratch_seed{seed}'
        cfgs = {
            n: Config.fromfile(to / f'{n}/{n}.py') for n in ('linear_probe', 'finetune')
        }
        labels = cfgs['linear_probe'].test_cfg.train_dataloader.dataset
        seeds.append(
            (labels.seed, *(c.randomness.seed for c in cfgs.values()))
            + (cfgs['finetune'].train_dataloader.dataset.seed,)
        )
    assert seeds == [(0,) * 4, (1,) * 4, (2,) * 4]


def test_resume_trains_nothing_again(runs):
    """What has been trained is left alone; what is missing is made."""
    folder, _ = runs
    work_dir = folder / 'work_dirs/quickstart'
    missing = work_dir / 'evaluation/scratch_seed1/finetune'
    summary = json.loads((work_dir / 'summary.json').read_text())
    for path in (missing / 'metrics.json', missing / 'iter_2.pth'):
        path.unlink()
    (missing / 'last_checkpoint').unlink()
    before = {path: path.stat().st_mtime_ns for path in work_dir.rglob('*.pth')}
    again = run_forked({'again': ['quickstart.py', '--resume', *SHORT]}, folder)['again']
    assert again.code == 0, again.output
    after = {path: path.stat().st_mtime_ns for path in work_dir.rglob('*.pth')}
    assert after.pop(missing / 'iter_2.pth') and after == before
    assert json.loads((work_dir / 'summary.json').read_text()) == summary


def test_an_interrupted_quickstart_says_how_to_resume(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, 'run_jobs', interrupt)
    with pytest.raises(KeyboardInterrupt):
        quickstart.run(mmcim_cli.parse(['quickstart', '--work-dir', str(tmp_path)]))
    assert 'resume with the same command and --resume' in capsys.readouterr().out
