# Copyright (c) mmcim contributors. All rights reserved.
"""The quickstart as a process, with a few iterations per training."""

import argparse
import json
import re

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from rich.console import Console

from .toy_run import REPO, run_forked

pytestmark = pytest.mark.slow

SHORT = [
    '--cfg-options',
    'train_cfg.max_iters=2',
    'param_scheduler=None',
    'default_hooks.logger.interval=1',
]
ROWS = ('scratch', 'cim_respix', 'cim_revdet')
TITLES = ('random weights', 'CIM-ResPix', 'CIM-RevDet')
# A path may have any character.
OWN, MINE = "John's, own (1)", 'my work, 1'


BAD = {
    'nowhere': ['nowhere is not a folder'],
    'single': ['one folder, one'],
    'few': [
        '2 of 3 classes have too few images',
        '\n  c: 0 for training, 0 for validation\n',
        'Expected of each: 20 for training, 1 for validation',
        'Add images (.jpg, ',
    ],
    'broken': [
        '2 of 81 images are unreadable',
        "\n  Cannot read the image 'broken/a/empty.jpg': it is empty",
        "\n  Cannot read the image 'broken/b/3.png': it is truncated",
    ],
    'none': ['no images (.jpg, '],
}


def make_images(folder, number):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(number):
        pixels = random.integers(0, 256, (48, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('quickstart')
    for name in 'abc':
        make_images(folder / OWN / name, 40)
    make_images(folder / 'single' / 'one', 1)
    (folder / 'none' / 'x').mkdir(parents=True)
    for name, number in dict(a=40, b=15, c=0).items():
        make_images(folder / 'few' / name, number)
    make_images(folder / 'flat', 9)
    for name in 'ab':
        make_images(folder / 'broken' / name, 40)
    (folder / 'broken/a/empty.jpg').touch()
    whole = (folder / 'broken/b/3.png').read_bytes()
    (folder / 'broken/b/3.png').write_bytes(whole[:20])
    cases = {
        'digits': ['quickstart.py', *SHORT],
        'not found': ['quickstart.py', '--data-root', 'nowhere', '--work-dir', 'bad'],
        **{name: ['check_images.py', name] for name in BAD},
        'flat': ['check_images.py', 'flat'],
    }
    return folder, run_forked(cases, folder)


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
    assert 'cim_respix: cim_respix 2/2  ' in output
    assert all(title in output.split(': done\n')[-1] for title in TITLES)
    folder = folder / 'work_dirs/quickstart'
    check_summary(folder, {'linear_probe', 'finetune', 'segmentation'})
    with Image.open(folder / 'images.png') as image:
        assert image.width > 9 * 96 and image.height > 8 * 64


@pytest.fixture
def quickstart(monkeypatch):
    monkeypatch.syspath_prepend(REPO)
    from tools import quickstart

    return quickstart


def arguments(folder, data_root, work_dir):
    options = {'train_cfg.max_iters': 2, 'param_scheduler': None}
    return argparse.Namespace(
        data_root=str(folder / data_root),
        work_dir=folder / work_dir,
        resume=False,
        cfg_options={**options, 'default_hooks.logger.interval': 1},
    )


def test_image_folder(runs, quickstart):
    """A job of each kind on images in three classes; a path may have any character."""
    folder, _ = runs
    jobs = quickstart.Quickstart(arguments(folder, OWN, MINE)).jobs()
    assert len(jobs) == 14
    # Nothing begins before the images have been looked through.
    assert [job.name for job in jobs if not job.after] == ['your images']
    # All but eight of the nine evaluations.
    last = 'cim_revdet, seed 2'
    chosen = [job for job in jobs if 'seed' not in job.name or job.name == last]
    quickstart.run_jobs(chosen, Console(), limit=2)
    found = folder / MINE / 'evaluation/cim_revdet_seed2'
    # Image folders have no segmentation maps.
    assert {path.parent.name for path in found.rglob('metrics.json')} == {
        'linear_probe',
        'finetune',
    }
    log = (found / 'console.log').read_text()
    assert (
        re.findall(r'Backbone weights: (\d+ of \d+) tensors matched', log)
        == ['52 of 52'] * 2
    )
    assert (folder / MINE / 'images.png').is_file()


def test_images_without_classes_are_not_evaluated(runs, quickstart):
    folder, results = runs
    assert results['flat'].code == 0, results['flat'].output
    assert 'All readable: 9 images in 0 classes' in results['flat'].output
    args = arguments(folder, 'flat', 'flat_work')
    names = [job.name for job in quickstart.Quickstart(args).jobs()]
    assert names == ['your images', 'tokenizer', 'cim_respix', 'cim_revdet', 'images']


def test_backbones_arrive(runs):
    folder, _ = runs
    logs = (folder / 'work_dirs/quickstart/evaluation').glob('*/console.log')
    log = ''.join(path.read_text() for path in logs)
    reports = re.findall(r'Backbone weights: (\d+) of (\d+) tensors matched(.*)', log)
    # Probe, fine-tuning and segmentation of two rows with three seeds.
    assert len(reports) == 18
    assert all(matched == total for matched, total, _ in reports)
    # Scenes are twice as large as the images of the pre-training.
    assert sum('pos_embed 37 -> 145' in rest for _, _, rest in reports) == 6


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


@pytest.mark.parametrize('name', BAD)
def test_unusable_folders(runs, name):
    output, code = runs[1][name].output, runs[1][name].code
    assert code == 2
    assert f'error: {name}' in output
    for part in BAD[name]:
        assert part in output
    assert 'Traceback' not in output
    if name == 'few':
        # 15 in the two subsets; the class that has enough is not named.
        train, val = re.search(r'b: (\d+) for training, (\d+) for', output).groups()
        assert int(train) + int(val) == 15
        assert '\n  a: ' not in output


def test_resume_trains_nothing_again(runs):
    """What has been trained is left alone; what is missing is made."""
    folder, _ = runs
    work_dir = folder / 'work_dirs/quickstart'
    missing = work_dir / 'evaluation/scratch_seed1/segmentation'
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


def test_folder_is_checked_before_the_first_training(runs):
    result = runs[1]['not found']
    assert result.code == 1
    assert 'error: your images: ' in result.output
    assert 'nowhere is not a folder' in result.output
    assert 'Traceback' not in result.output and 'tokenizer' not in result.output
