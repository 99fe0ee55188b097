# Copyright (c) mmcim contributors. All rights reserved.
"""The notebook runs from its first cell to its last."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from ..cli.toy_run import REPO, environment

pytestmark = pytest.mark.slow


def test_your_images_in_ten_minutes(tmp_path):
    notebook = json.loads((REPO / 'docs/notebooks/your_images.ipynb').read_text())
    assert all(not cell.get('outputs') for cell in notebook['cells'])
    cells = [c['source'] for c in notebook['cells'] if c['cell_type'] == 'code']
    source = '\n'.join(''.join(cell) for cell in cells)
    assert "budget='5min'" in source
    script = tmp_path / 'notebook.py'
    script.write_text(source.replace("budget='5min'", "budget='5s'"))
    env = {**environment(), 'MPLBACKEND': 'agg'}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert '(1797, 128)' in done.stdout
    assert 'Linear probe of random weights' in done.stdout
    for name in ('neighbours', 'pca'):
        with Image.open(tmp_path / f'{name}.png') as image:
            assert len(image.getcolors(1 << 20)) > 100
