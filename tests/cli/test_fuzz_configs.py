# Copyright (c) mmcim contributors. All rights reserved.
"""Configs that are wrong in one place are refused in one line that says where."""

import sys

import pytest

from .toy_run import REPO, run_tool


@pytest.mark.slow
def test_thirty_wrong_configs(tmp_path):
    """``.dev/fuzz_configs.py`` by itself tries two hundred."""
    fuzz = REPO / '.dev/fuzz_configs.py'
    result = run_tool(sys.executable, fuzz, '--count', '30', cwd=tmp_path)
    assert result.code == 0, result.output
