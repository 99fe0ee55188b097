# Copyright (c) mmcim contributors. All rights reserved.
"""What only ``**kwargs`` take is spelt right; classes refuse other unknown keys."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmcim.utils import building, check_keys

from ..conftest import is_readable

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def test_keys_of_all_configs(monkeypatch):
    pytest.importorskip('mmseg')
    warnings = []
    monkeypatch.setattr(building, 'print_log', lambda text, **_: warnings.append(text))
    for path in CONFIGS.rglob('*.py'):
        if '_base_' not in path.parts and is_readable(path):
            check_keys(Config.fromfile(path))
    assert warnings == []
