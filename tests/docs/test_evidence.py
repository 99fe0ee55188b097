# Copyright (c) mmcim contributors. All rights reserved.
"""The page of results says what the lines of results say."""

import importlib.util

import pytest

from ..cli.toy_run import REPO


@pytest.fixture
def page():
    spec = importlib.util.spec_from_file_location('page', REPO / '.dev/evidence/page.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines(*values):
    return [dict(value=value) for value in values]


def test_cells_have_mean_and_deviation_of_the_seeds(page):
    assert page.cell(lines(1.0, 2.0, 3.0)) == '2.0 ± 1.0'
    assert page.cell(lines(50.25)) == '50.2'
    assert page.cell([]) == '-'


def test_gain_is_in_pooled_deviations(page):
    ours, base = dict(probe_10=lines(14, 15, 16)), dict(probe_10=lines(10, 12, 14))
    # A difference of 3; variances 1 and 4.
    assert page.gain(ours, base, 'probe_10') == f'{3 / 2.5**0.5:+.1f}'
    assert page.gain(ours, dict(probe_10=lines(10)), 'probe_10') == '-'


def test_every_run_and_task_names_a_config(page):
    plan = page.yaml.safe_load((page.HERE / 'runs.yaml').read_text())
    for run in plan['runs'].values():
        assert (REPO / f'configs/images/{run["config"]}.py').is_file()
    for task in plan['tasks'].values():
        assert (REPO / task['config'].format(arch='vit')).is_file()
