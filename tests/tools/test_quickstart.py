# Copyright (c) mmcim contributors. All rights reserved.
"""The quickstart as a process, with a few iterations per training."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .toy_run import REPO, run_forked

SHORT = [
    '--cfg-options',
    'train_cfg.max_iters=2',
    'param_scheduler=None',
    'default_hooks.logger.interval=1',
]
ROWS = ('scratch', 'cim_respix', 'cim_revdet')
# A path may have any character.
OWN, MINE = "John's, own (1)", 'my work, 1'


def make_pictures(folder, number):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(number):
        pixels = random.integers(0, 256, (48, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{i}.png')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('quickstart')
    for name in 'abc':
        make_pictures(folder / OWN / name, 40)
    (folder / 'single' / 'one').mkdir(parents=True)
    for name, number in dict(a=40, b=15, c=0).items():
        make_pictures(folder / 'few' / name, number)
    for name in 'ab':
        make_pictures(folder / 'broken' / name, 40)
    (folder / 'broken/a/empty.jpg').touch()
    whole = (folder / 'broken/b/3.png').read_bytes()
    (folder / 'broken/b/3.png').write_bytes(whole[:20])
    cases = {
        'digits': ['quickstart.py', *SHORT],
        'own': ['quickstart.py', '--data-root', OWN, '--work-dir', MINE, *SHORT],
        'nothing': ['quickstart.py', '--data-root', 'nowhere'],
        'single': ['quickstart.py', '--data-root', 'single'],
        'few': ['quickstart.py', '--data-root', 'few', '--work-dir', 'bad'],
        'broken': ['quickstart.py', '--data-root', 'broken', '--work-dir', 'bad'],
    }
    return folder, run_forked(cases, folder)


@pytest.mark.parametrize(
    ('name', 'work_dir'), [('digits', 'work_dirs/quickstart'), ('own', MINE)]
)
def test_four_steps(runs, name, work_dir):
    folder, results = runs
    output = results[name].output
    assert results[name].code == 0, output
    for step in range(1, 5):
        assert f'Step {step} of 4' in output
    assert ('Looking through 120 pictures' in output) == (name == 'own')
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


BAD = {
    'nothing': ['nowhere is not a folder'],
    'single': ['one folder, one'],
    'few': [
        '2 of 3 classes have too few pictures',
        '\n  c: 0 for training, 0 for validation\n',
        'Expected of each: 20 for training, 1 for validation',
        'Add pictures (.jpg, ',
    ],
    'broken': [
        '2 of 81 pictures cannot be read',
        '/broken/a/empty.jpg\n',
        '/broken/b/3.png\n',
        'bad/unreadable.txt lists all',
    ],
}


@pytest.mark.parametrize('name', BAD)
def test_bad_folders_are_told_before_the_first_step(runs, name):
    folder, results = runs
    output = results[name].output
    assert results[name].code == 2
    assert 'error: --data-root' in output
    for part in BAD[name]:
        assert part in output
    assert 'Traceback' not in output and 'Step 1' not in output
    if name == 'few':
        # 15 in the two subsets; the class that has enough is not named.
        train, val = re.search(r'b: (\d+) for training, (\d+) for', output).groups()
        assert int(train) + int(val) == 15
        assert '\n  a: ' not in output
    if name == 'broken':
        listed = (folder / 'bad/unreadable.txt').read_text().splitlines()
        assert [Path(path).name for path in listed] == ['empty.jpg', '3.png']


@pytest.fixture
def quickstart(monkeypatch):
    monkeypatch.syspath_prepend(REPO)
    from tools import quickstart

    return quickstart


def test_finished_classifiers_are_resumed(runs, quickstart, monkeypatch):
    """They train no further, and their results are found again."""
    folder, _ = runs
    monkeypatch.chdir(folder)
    work_dir = Path('work_dirs/quickstart')
    files = list(work_dir.glob('classifiers/scratch_seed1/*/*.pth'))
    before = [file.stat().st_mtime_ns for file in files]
    resumed = quickstart.Quickstart(work_dir, None, resume=True, options=SHORT[1:])
    job = partial(resumed.evaluate_once, 'scratch', None, 1)
    found = quickstart.in_parallel({'again': job})['again']
    summary = json.loads((work_dir / 'summary.json').read_text())['scratch']
    assert {name: [round(value, 2)] for name, value in found.items()} == {
        name: metric['seeds'][1:2] for name, metric in summary.items()
    }
    assert len(files) == 2
    assert before == [file.stat().st_mtime_ns for file in files]


def test_pictures_without_classes(tmp_path, quickstart):
    def numbers_of_classes(root):
        return quickstart.Quickstart(tmp_path / 'work', str(root), False).num_classes

    def look(root):
        return quickstart.in_parallel({0: partial(numbers_of_classes, root)})[0]

    make_pictures(tmp_path / 'flat', 3)
    assert look(tmp_path / 'flat') == 0
    (tmp_path / 'flat/1.png').write_bytes(b'')
    with pytest.raises(quickstart.ConfigError, match=r'1 of \d pictures cannot'):
        look(tmp_path / 'flat')
    make_pictures(tmp_path / 'none', 0)
    with pytest.raises(quickstart.ConfigError, match='no picture to train with'):
        look(tmp_path / 'none')
