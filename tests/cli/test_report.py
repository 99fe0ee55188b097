# Copyright (c) mmcim contributors. All rights reserved.
import subprocess
import sys

import pytest

import mmcim_cli
from mmcim.cli import report
from mmcim.utils import ConfigError

from ..reports.written_runs import (
    photo,
    start,
    trained,
    write_image,
    write_lines,
    write_scalars,
)
from .toy_run import REPO, environment


def call(*arguments):
    report.run(mmcim_cli.parse(['report', *map(str, arguments)]))


@pytest.fixture
def runs(tmp_path):
    """Two runs below a folder; the second has crashed before its first number."""
    folder = tmp_path / 'work_dirs'
    write_lines(folder / 'a/events.jsonl', start(settings=dict(lr=0.1)))
    write_scalars(folder / 'a', *trained(*range(10, 1000, 10)), broken='{"loss": 0.')
    write_lines(folder / 'b/events.jsonl', start(event='error', message='out of memory'))
    return folder


def test_page_of_all_runs_below_a_folder(runs, tmp_path, capsys):
    call(runs, '--out', tmp_path / 'new/page.html')
    text = (tmp_path / 'new/page.html').read_text()
    assert '<h1>a, b</h1>' in text and 'failed: out of memory' in text
    assert capsys.readouterr().out.startswith(f'wrote {tmp_path}/new/page.html: 2 run(s)')
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['page.html']


@pytest.mark.slow
def test_page_of_40_photos_and_long_curves_is_at_most_5_mb(tmp_path):
    for name in ('a', 'b'):
        many = {f'loss_{i}': i / 3 for i in range(20)}
        write_scalars(tmp_path / name, *trained(*range(1, 20_000, 4), **many))
    for step in range(40):
        write_image(tmp_path / 'a', f'panels_{step}', photo(step))
    call(tmp_path / 'a', tmp_path / 'b', '--out', tmp_path / 'page.html')
    text = (tmp_path / 'page.html').read_text()
    assert text.count('src="data:image/webp;base64,') == 40
    assert len(text.encode()) <= 5_000_000


def test_missing_bokeh_is_one_line(runs, monkeypatch):
    monkeypatch.setattr(report, 'find_spec', lambda name: None)
    with pytest.raises(ConfigError, match=r'^curves need Bokeh: pip install "mmcim\[rep'):
        call(runs)


def test_command_needs_neither_torch_nor_mmengine(runs, tmp_path):
    """Nor does it run what lies in the work directory."""
    (runs / 'a/config.py').write_text('raise SystemExit("run")')
    heavy = "{'torch', 'mmengine', 'mmcv', 'mmpretrain'} & set(sys.modules)"
    code = f'import sys, mmcim_cli\nmmcim_cli.main(sys.argv[1:])\nprint({heavy})'
    done = subprocess.run(
        [sys.executable, '-c', code, 'report', runs, '--out', tmp_path / 'page.html'],
        env={**environment(), 'PYTHONPATH': str(REPO)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('MB\nset()\n') and done.stderr == ''


def test_no_run_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        mmcim_cli.main(['report', str(tmp_path)])
    assert error.value.code == 2
    assert capsys.readouterr().err == (
        f'error: no run (events.jsonl or */vis_data) in {tmp_path}\n'
    )
