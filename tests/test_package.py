# Copyright (c) mmcim contributors. All rights reserved.
"""What an installed mmcim gives to configs elsewhere.

``.ci/check_wheel.sh`` has the same of a wheel in a fresh environment.
"""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

import mmcim
from mmcim.utils import build_runner, check_keys, load_config

REPO = Path(__file__).parents[1]

if not Path(mmcim.__file__).with_name('.mim').exists():
    pytest.skip('mmcim is not installed from this folder', allow_module_level=True)


@pytest.fixture
def child(tmp_path):
    """A config outside the clone that inherits by name."""
    path = tmp_path / 'child.py'
    path.write_text(
        "_base_ = 'mmcim::quickstart/mae.py'\n"
        'train_cfg = dict(max_iters=4)\n'
        'test_pipeline = _base_.train_pipeline\n'
    )
    return path


@pytest.mark.parametrize(
    'name', ['cim/vit-b_8xb256-300e.py', '_base_/models/cim_vit-b.py']
)
def test_get_config_with_and_without_an_entry_in_the_index(name):
    found = get_config(f'mmcim::{name}')
    expected = Config.fromfile(REPO / 'configs' / name)
    assert found.to_dict() == expected.to_dict()


def test_config_that_inherits_by_name_is_that_of_the_clone(child):
    expected = load_config(REPO / 'configs/quickstart/mae.py').to_dict()
    expected['train_cfg']['max_iters'] = 4
    expected['test_pipeline'] = expected['train_pipeline']
    cfg = load_config(child)
    check_keys(cfg)  # as whatever builds a part of it does
    found = cfg.to_dict()
    assert found.pop('work_dir') and expected.pop('work_dir')
    assert found == expected


def test_runner_builds_what_is_inherited_by_name(child, tmp_path):
    cfg = Config.fromfile(child)
    assert cfg.model._scope_ == 'mmcim'
    cfg.work_dir = str(tmp_path / 'work')
    runner = build_runner(cfg, 'train')
    assert type(runner.model).__name__ == cfg.model.type
    assert runner.train_loop.max_iters == 4


def test_default_installation_has_no_tools_of_developers():
    text = (REPO / 'pyproject.toml').read_text()
    required = re.search(r'\ndependencies = \[(.+?)\n\]', text, re.DOTALL).group(1)
    names = set(re.findall(r"'([\w-]+)>=", required))
    assert {'torch', 'timm', 'rich', 'onedl-mmengine'} <= names
    assert not names & {'pytest', 'ruff', 'mypy', 'transformers', 'tensorboard', 'wandb'}
