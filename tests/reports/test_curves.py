# Copyright (c) mmcim contributors. All rights reserved.
import math

import numpy as np

from mmcim.reports.curves import _columns, draw_curves
from mmcim.reports.runs import RunHistory


def test_short_curve_is_drawn_as_logged_and_sorted():
    columns = _columns({20: 0.5, 10: 1.5, 30: math.inf, 40: math.nan}, 1000)
    assert columns['iteration'].tolist() == [10, 20, 30, 40]
    np.testing.assert_array_equal(columns['value'], [1.5, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(columns['smooth'], columns['value'])


def test_long_curve_is_drawn_as_means_of_neighbours():
    points = {i: i**2 for i in range(1, 12)}
    columns = _columns(points, 4)  # three points each, and the last two
    assert columns['iteration'].tolist() == [2, 5, 8, 10]
    expected = [(1 + 4 + 9) / 3, 77 / 3, 194 / 3, (100 + 121) / 2]
    np.testing.assert_allclose(columns['value'], expected, rtol=1e-6)


def test_each_scalar_has_a_plot_and_bokeh_is_in_the_page():
    runs = [
        RunHistory('a', scalars={'loss': {1: 2.0, 2: 1.0}, 'lr': {1: 0.1}}),
        RunHistory('b', scalars={'loss': {1: 3.0}}),
        RunHistory('nothing logged'),
    ]
    curves = draw_curves(runs)
    assert [*curves['plots']] == ['loss', 'lr']
    library, script = curves['scripts']
    assert ' src=' not in library[:300] and len(library) > 1_000_000
    assert script.count('"label":{"type":"value","value":"a"}') == 2
    assert script.count('"label":{"type":"value","value":"b"}') == 1
    assert 'nothing logged' not in script


def test_points_are_fewer_where_there_are_many_curves():
    few = [RunHistory('a', scalars={'loss': {1: 1.0}})]
    many = [RunHistory(name, scalars={'loss': {1: 1.0}}) for name in map(str, range(50))]
    assert draw_curves(few)['most'] == 1000
    assert draw_curves(many)['most'] == 800


def test_no_runs_with_scalars():
    assert draw_curves([RunHistory('a')])['plots'] == {}
