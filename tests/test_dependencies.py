# Copyright (c) mmcim contributors. All rights reserved.
"""The check of ``import mmcim`` for OpenMMLab packages of the wrong family."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmpretrain.utils import dependency

from mmcim import dependencies
from mmcim.dependencies import (
    INSTALL_MMDET,
    check_dependencies,
    leave_out_multimodal,
)

from .conftest import REPO

GOOD = {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6',
    'onedl-mmsegmentation': '1.4.2',
}
INSTALL = 'pip install -c constraints.txt -e .'


@pytest.fixture
def installed(monkeypatch):
    """A machine with the given distributions, which tests may change."""
    found = dict(GOOD)

    def distributions():
        return [SimpleNamespace(name=n, version=v) for n, v in found.items()]

    stand_in = SimpleNamespace(distributions=distributions)
    monkeypatch.setattr(dependencies, 'metadata', stand_in)
    return found


def message(installed):
    with pytest.raises(ImportError) as error:
        check_dependencies()
    return str(error.value)


def test_current_environment_passes():
    check_dependencies()


def test_onedl_packages_pass(installed):
    check_dependencies()


def test_all_onedl_packages_are_required():
    project = (Path(__file__).parents[1] / 'pyproject.toml').read_text()
    required = project.split('[project.optional-dependencies]')[0]
    for name in GOOD:
        assert f"'{name}>=" in required


@pytest.mark.parametrize(
    'name',
    [
        *('mmengine', 'mmcv', 'mmpretrain', 'mmsegmentation'),
        *('mmengine-lite', 'mmcv-lite', 'mmcv-full', 'mmdet'),
    ],
)
def test_mixed_packages_raise(installed, name):
    installed[name] = '1.7.2'
    text = message(installed)
    assert f'{name} 1.7.2 of the upstream family was found' in text
    assert f'pip uninstall -y {name} {" ".join(GOOD)} && {INSTALL}' in text


def test_upstream_packages_raise(installed):
    installed.clear()
    installed.update(mmengine='0.10.7', mmcv='2.1.0', mmpretrain='1.2.0')
    text = message(installed)
    assert 'mmengine 0.10.7, mmcv 2.1.0, mmpretrain 1.2.0 of the upstream' in text
    assert 'pip uninstall -y mmengine mmcv mmpretrain onedl-mmengine' in text
    assert text.endswith(f' && {INSTALL}')


def test_error_precedes_other_imports(tmp_path):
    """An upstream mmengine beside the fork is noticed before anything is imported."""
    info = tmp_path / 'mmengine-0.10.7.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(
        'Metadata-Version: 2.1\nName: mmengine\nVersion: 0.10.7\n'
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, '-c', 'import mmcim'],
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'mmengine 0.10.7 of the upstream family was found' in done.stderr


@pytest.mark.parametrize(
    ('version', 'found', 'left'),
    [('4.57.1', True, True), ('5.23.0', True, False), ('5.23.0', False, False)],
)
def test_transformers_5_leaves_multimodal_models_out(monkeypatch, version, found, left):
    monkeypatch.setattr(dependency, 'WITH_MULTIMODAL', found)
    stand_in = SimpleNamespace(version={'transformers': version}.__getitem__)
    monkeypatch.setattr(dependencies, 'metadata', stand_in)
    leave_out_multimodal()
    assert dependency.WITH_MULTIMODAL is left


def test_command_for_mmdetection_is_documented_and_pinned():
    assert f'\n{INSTALL_MMDET}\n' in (REPO / 'docs/detection.md').read_text()
    pinned = (REPO / 'constraints.txt').read_text()
    for package in INSTALL_MMDET.split('--no-deps ')[1].split():
        assert f'\n{package}==' in pinned, package
