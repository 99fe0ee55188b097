# Copyright (c) mmcim contributors. All rights reserved.
"""The table of modules in docs/code.md is that of the code."""

import re
import runpy
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def test_table_lists_every_module_with_its_lines():
    modules = runpy.run_path(str(REPO / '.dev/code_map.py'))['modules']()
    rows = re.findall(
        r'^\| \[.+?\]\(\.\./(.+?)\) \| (.+?) \| (\d+) \|$',
        (REPO / 'docs/code.md').read_text(),
        re.MULTILINE,
    )
    assert [path for path, *_ in rows] == list(modules), 'run: python .dev/code_map.py'
    for path, sentence, count in rows:
        expected, lines = modules[path]
        assert expected, f'{path} has no docstring'
        assert sentence == expected.replace('``', '`').rstrip('.'), path
        # A table that is a little behind is no reason for a red build.
        assert abs(int(count) - lines) <= max(10, 0.2 * lines), path
