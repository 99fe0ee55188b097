# Copyright (c) mmcim contributors. All rights reserved.
"""Runs that are killed again and again end as if nobody had killed them."""

import sys

import pytest

from .toy_run import REPO, run_tool


@pytest.mark.slow
def test_six_kills(tmp_path):
    """Of two runs; ``.dev/soak.py`` by itself goes on for as long as one likes."""
    soak = REPO / '.dev/soak.py'
    result = run_tool(sys.executable, soak, '--kills', '6', '--each', '3', cwd=tmp_path)
    assert result.code == 0, result.output
    assert '6 kills, ' in result.output and ', 0 wrong' in result.output
