# Copyright (c) mmcim contributors. All rights reserved.
import json
import sys
from datetime import datetime

import pytest
from mmengine.hooks import Hook

from mmcim.datasets.transforms import LoadImage
from mmcim.utils import ConfigError, files


def events(folder):
    return list(map(json.loads, (folder / 'events.jsonl').read_text().splitlines()))


def named(folder):
    return [event['event'] for event in events(folder)]


class Act(Hook):
    """Does something in an iteration."""

    def __init__(self, iteration, act):
        self.iteration, self.act = iteration, act

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            self.act(runner)


def fail(runner):
    raise RuntimeError('out of <luck>')


def test_a_whole_run(make_runner, tmp_path):
    warn = Act(1, lambda runner: runner.logger.warning('mind the gap'))
    make_runner([warn], scores=[0.5, 0.75]).train()
    # mmengine warns of more.
    own = (e for e in events(tmp_path) if e.get('message', 'gap').endswith('gap'))
    found = list(own)
    each = ['checkpoint', 'validation']
    assert [e['event'] for e in found] == ['start', 'warning', *each, *each, 'end']
    start, end = found[0], found[-1]
    assert start['event'] == 'start' and end['event'] == 'end' and end['iter'] == 4
    assert start['settings'] == {} and start['versions']['python'] in sys.version
    assert start['record']['train_dataloader']['dataset']['size'] == 8
    by_name = {e['event']: e for e in found}
    assert by_name['warning']['message'] == 'mind the gap'
    assert by_name['warning']['iter'] == 1 and by_name['checkpoint']['iter'] == 4
    assert by_name['validation']['metrics'] == {'score': 0.75}
    assert by_name['checkpoint']['path'] == f'{tmp_path}/epoch_2.pth'
    times = [datetime.fromisoformat(e['time']) for e in found]
    assert times == sorted(times) and times[0].utcoffset().total_seconds() == 0


def test_a_failed_run_is_resumed(make_runner, tmp_path):
    with pytest.raises(RuntimeError):
        make_runner([Act(3, fail)]).train()
    last = events(tmp_path)[-1]
    assert last['event'] == 'error' and last['iter'] == 3
    assert last['message'] == 'RuntimeError: out of <luck>'
    make_runner(resume=True).train()
    resumed = next(e for e in events(tmp_path) if e['event'] == 'resume')
    assert resumed['iter'] == 2 and named(tmp_path)[-1] == 'end'


def test_a_stopped_run(make_runner, tmp_path):
    with pytest.raises(SystemExit):
        make_runner([Act(1, lambda runner: sys.exit(143))]).train()
    last = events(tmp_path)[-1]
    assert last['event'] == 'interrupted' and last['message'] == 'SystemExit: 143'


def test_skipped_images_are_events_of_their_own(make_runner, tmp_path):
    load = LoadImage(ignore_empty=True)
    path = str(tmp_path / 'missing.jpg')
    make_runner([Act(1, lambda runner: load.transform(dict(img_path=path)))]).train()
    (skipped,) = [e for e in events(tmp_path) if e['event'] == 'skipped_image']
    assert 'missing.jpg' in skipped['message'] and 'iter' not in skipped


def test_nothing_is_noted_after_the_run(make_runner, tmp_path):
    runner = make_runner()
    runner.train()
    before = len(events(tmp_path))
    runner.logger.warning('too late')
    assert len(events(tmp_path)) == before


def test_a_line_that_a_crash_has_cut_harms_no_other(make_runner, tmp_path):
    (tmp_path / 'events.jsonl').write_bytes(b'{"event": "chec')
    make_runner().train()
    first, second, *_ = (tmp_path / 'events.jsonl').read_text().splitlines()
    assert first == '{"event": "chec'
    assert json.loads(second)['event'] in ('start', 'warning')


def test_a_full_disk_is_named(make_runner, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    fill = Act(1, lambda runner: monkeypatch.setattr(files, 'open', full, False))
    runner = make_runner([fill])
    with pytest.raises(ConfigError, match=f'cannot write {tmp_path}.*: No space'):
        runner.train()
    assert 'start' in named(tmp_path)
