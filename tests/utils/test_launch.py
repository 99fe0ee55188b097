# Copyright (c) mmcim contributors. All rights reserved.
import copy

import pytest
from mmengine.config import Config

from mmcim.utils import ConfigError, load_config


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'base.py').write_text("model = dict(arch='deit-base')\n")
    return tmp_path


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("_base_ = 'nowhere.py'", 'a.py inherits from a missing file'),
        ("_base_ = 'base.py'\nmodel = dict(arch=dict(width=8))", 'a.py does not fit'),
    ],
)
def test_inheritance_that_fails(folder, text, message):
    (folder / 'a.py').write_text(text + '\n')
    with pytest.raises(ConfigError, match=message):
        load_config(folder / 'a.py')


def test_options_and_work_directory(folder):
    cfg = load_config(folder / 'base.py', {'model.depth': 3})
    assert cfg.model == dict(arch='deit-base', depth=3)
    assert cfg.work_dir == 'work_dirs/base'
    assert load_config(folder / 'base.py', work_dir='here').work_dir == 'here'
    with pytest.raises(ConfigError, match='--cfg-options do not fit'):
        load_config(folder / 'base.py', {'model.arch.width': 3})


def test_text_follows_the_config(folder):
    """Although it is formatted once, in copies too."""
    cfg = load_config(folder / 'base.py')
    for depth in (1, 2, 1):
        cfg.model.depth = depth
        expected = Config(cfg.to_dict()).pretty_text
        assert cfg.pretty_text == copy.deepcopy(cfg).pretty_text == expected
        assert f'depth={depth}' in expected
