# Copyright (c) mmcim contributors. All rights reserved.
import json
import math

import numpy as np
import pytest

from mmcim.reports.runs import find_runs, read_run
from mmcim.utils import ConfigError

from .written_runs import start, trained, write_image, write_lines, write_scalars

SESSIONS = ('20261126_130000', '20261126_140000', '20261127_090000')


@pytest.fixture
def run(tmp_path):
    return tmp_path / 'run'


def test_scalars_of_training_and_hooks_stand_where_they_were_logged(run):
    write_scalars(
        run,
        *trained(50, 100, epoch=1),
        {'probe/top1': 40.5, 'step': 60},  # written late
        {'images_per_s': 99, 'data_wait': 0.0, 'step': 100},
        {'loss': math.nan, 'text': 'no number', 'flag': True, 'iter': 150, 'step': 150},
    )
    found = read_run('run', run)
    assert found.scalars['lr'] == {50: 1e-3, 100: 1e-3}
    assert found.scalars['probe/top1'] == {60: 40.5}
    assert found.scalars['images_per_s'] == {100: 99}
    assert math.isnan(found.scalars['loss'].pop(150))
    assert found.scalars['loss'] == {50: 1 / 50, 100: 1 / 100}
    assert not found.scalars.keys() & {'step', 'iter', 'epoch', 'text', 'flag'}
    assert found.evaluations == {'probe/top1'}
    assert found.last('lr') == 1e-3 and found.last('nothing') is None


@pytest.mark.parametrize('step', [1, 0, 100])
def test_validations_are_later_than_the_training_lines_above(run, step):
    """By epoch; by iteration, where mmengine writes 0; by iteration on request."""
    first = {'accuracy/top1': 50.0, 'loss': 3.0, 'time': 9.0, 'step': step}
    second = first | {'accuracy/top1': 60.0, 'step': 2 * step}
    write_scalars(run, *trained(50, 100), first, *trained(150, 200), second)
    found = read_run('run', run)
    assert found.scalars['accuracy/top1'] == {100: 50.0, 200: 60.0}
    assert found.scalars['val/loss'] == {100: 3.0, 200: 3.0}
    assert found.scalars['loss'][100] == 1 / 100
    assert set(found.scalars['time'].values()) == {0.5}
    assert found.evaluations == {'accuracy/top1', 'val/loss'}


def test_resumed_run_has_each_iteration_once(run):
    """The second session goes back to 100, the third to 120, behind its last line."""
    image = np.zeros((4, 4, 3), np.uint8)
    for session, iterations in zip(SESSIONS, [(50, 100, 150), (150, 200), (250,)]):
        lines = trained(*iterations, lr=float(session[-6:]))
        probe = {'probe/top1': float(session[-6:]), 'step': iterations[-1] - 10}
        write_scalars(run, *lines, probe, session=session)
        write_image(run, f'panels_{iterations[-1] - 20}', image, session)
    resumed = [start(100, 'resume'), start(200, 'resume')]
    write_lines(run / 'events.jsonl', start(), *resumed)
    found = read_run('run', run)
    lr = {50: 130000, 100: 130000, 150: 140000, 200: 140000, 250: 90000}
    assert found.scalars['lr'] == lr
    # 140 of the first session is no part of the run, although nothing replaces it.
    assert found.scalars['probe/top1'] == {190: 140000, 240: 90000}
    assert list(found.images['panels']) == [180, 230]


def test_without_events_a_session_begins_with_its_first_line(run):
    write_scalars(run, *trained(50, 100, 150, lr=1.0), session=SESSIONS[0])
    write_scalars(run, session=SESSIONS[1])  # killed before it logged
    write_scalars(run, *trained(100, lr=2.0), session=SESSIONS[2])
    found = read_run('run', run)
    assert found.scalars['lr'] == {50: 1, 100: 2}
    assert found.events == [] and found.settings == {} and found.versions == {}
    assert found.status.startswith('no end recorded, last entry 20')


def test_half_written_and_missing_files_are_left_out(run):
    write_scalars(run, *trained(50), broken='{"loss": 0.1, "it')
    write_lines(run / 'events.jsonl', start(), broken='{"time": "2026-11')
    write_lines(run / 'list.json', broken='["a.png", 1')
    (run / 'gone.json').symlink_to(run / 'nowhere')
    (run / SESSIONS[1] / 'vis_data').mkdir(parents=True)
    found = read_run('run', run)
    assert found.scalars['loss'] == {50: 1 / 50}
    assert len(found.events) == 1 and found.results == {}


def test_work_directory_with_events_alone(run):
    write_lines(run / 'events.jsonl', start())
    assert find_runs([run]) == {'run': run.resolve()}
    found = read_run('run', run)
    assert found.scalars == found.images == {}


def test_settings_and_versions_of_the_last_session(run):
    settings = dict(
        optim=dict(lr=0.1, betas=[0.9, 0.95]),
        pipeline=[dict(type='Flip'), dict(type='Crop')],
        seed=None,
        resume=True,
        work_dir='w',
        train_cfg=dict(max_iters=400),
        hooks={},
    )
    environment = dict(torch='2.14.1', processes=8)
    record = dict(
        train_cfg=dict(max_iters=400), tokenizers='none', environment=environment
    )
    first = start(settings=dict(optim=dict(lr=9)), versions=dict(python='3.10'))
    last = start(event='resume', settings=settings, record=record)
    write_lines(run / 'events.jsonl', first, last | dict(versions=dict(gpu='H100')))
    found = read_run('run', run)
    assert found.settings == {
        'optim.lr': 0.1,
        'optim.betas': [0.9, 0.95],
        'pipeline.0.type': 'Flip',
        'pipeline.1.type': 'Crop',
        'seed': None,
        'train_cfg.max_iters': 400,
        'hooks': {},
        'record.tokenizers': 'none',
    }
    assert found.versions == {'torch': '2.14.1', 'processes': 8, 'gpu': 'H100'}


@pytest.mark.parametrize(
    ('events', 'status'),
    [
        ([start(event='end')], 'finished'),
        ([start(event='interrupted')], 'interrupted'),
        ([start(event='error', message='loss is NaN')], 'failed: loss is NaN'),
        ([start(event='error'), start(event='resume')], 'no end recorded, last entry'),
        ([start(event='end'), start(event='of a later version')], 'finished'),
    ],
)
def test_status(run, events, status):
    write_lines(run / 'events.jsonl', start(), *events)
    assert read_run('run', run).status.startswith(status)


def test_results_are_files_of_numbers(run):
    run.mkdir()
    session = run / SESSIONS[0]
    (session / 'deeper').mkdir(parents=True)
    metrics = {'linear/top1': 87.5, 'time': 3.0, 'data_time': 1.0}
    files = {
        run / 'metrics.json': {'accuracy/top1': 70},
        run / 'names.json': {'a': 1, 'b': 'text'},
        run / 'list.json': [1, 2],
        session / f'{SESSIONS[0]}.json': metrics,
        session / 'deeper/metrics.json': {'a': 1},
        run / 'large.json': {str(i): i for i in range(20_000)},
    }
    for path, content in files.items():
        path.write_text(json.dumps(content))
    assert read_run('run', run).results == {
        'accuracy/top1 (metrics.json)': 70,
        'linear/top1 (last test)': 87.5,
    }


def test_images_may_have_underscores_in_their_names(run):
    path = write_image(run, 'held_out_20', np.zeros((4, 4, 3), np.uint8))
    write_image(run, 'no_step', np.zeros((4, 4, 3), np.uint8))
    assert read_run('run', run).images == {'held_out': {20: path}}


def test_names_are_the_shortest_ends_that_differ(tmp_path):
    """Also of names that are patterns, and of a folder that is given twice."""
    for folder in ('a/probe', 'b/probe', 'b/tuned', '[ab]/probe'):
        write_scalars(tmp_path / folder, *trained(1))
    write_lines(tmp_path / 'b/probe/inner/events.jsonl', start())
    names = find_runs([tmp_path / 'a', tmp_path / '[ab]', tmp_path / 'b/probe'])
    assert [*names] == ['a/probe', '[ab]/probe', 'b/probe']
    again = find_runs([tmp_path / 'b/tuned', tmp_path / 'b/../b/tuned'])
    assert again == {'tuned': tmp_path.resolve() / 'b/tuned'}


@pytest.mark.parametrize(
    ('folder', 'problem'), [('.', 'no run'), ('missing', 'missing is not a folder')]
)
def test_no_run_is_an_error(tmp_path, folder, problem):
    with pytest.raises(ConfigError, match=problem):
        find_runs([tmp_path / folder])
