# Copyright (c) mmcim contributors. All rights reserved.
"""What ``import mmcim`` says of an installation that does not fit."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmcim import dependencies
from mmcim.dependencies import check_dependencies

GOOD = {
    'torch': '2.14.1',
    'torchvision': '0.29.1',
    'timm': '1.0.31',
    'safetensors': '0.8.0',
    'scikit-learn': '1.9.1',
    'numpy': '2.5.0',
    'pillow': '12.2.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6',
    'onedl-mmsegmentation': '1.4.2',
}


@pytest.fixture
def installed(monkeypatch):
    """A machine with the given distributions, which tests may change."""
    found = dict(GOOD)

    def version(name):
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    stand_in = SimpleNamespace(
        PackageNotFoundError=metadata.PackageNotFoundError,
        version=version,
        requires=lambda name: ['torch==2.14.1', 'numpy'],
    )
    monkeypatch.setattr(dependencies, 'metadata', stand_in)
    return found


def message(installed):
    with pytest.raises(ImportError) as error:
        check_dependencies()
    return str(error.value)


def test_this_installation_fits():
    check_dependencies()


def test_a_build_tag_is_no_other_version(installed):
    installed.update(torch='2.14.1+cu130', torchvision='0.29.1+cu130')
    check_dependencies()
    installed.update(torch='2.14.1+cpu', torchvision='0.29.1+cpu')
    check_dependencies()


def test_cpu_torch_with_a_cuda_torchvision(installed):
    installed['torch'] = '2.14.1+cpu'
    assert 'torch 2.14.1+cpu and torchvision 0.29.1 are of diff' in message(installed)


def test_segmentation_is_optional(installed):
    del installed['onedl-mmsegmentation']
    check_dependencies()


def test_missing(installed):
    del installed['timm'], installed['onedl-mmcv']
    text = message(installed)
    assert 'timm>=1.0.15 is not installed' in text
    assert "pip install 'timm>=1.0.15' 'onedl-mmcv>=2.3.6'" in text


def test_numpy_and_pillow(installed):
    del installed['pillow']
    installed['numpy'] = '1.25.2'
    text = message(installed)
    assert 'numpy>=1.26 is needed, but version 1.25.2 was found' in text
    assert "pip install 'numpy>=1.26' 'pillow>=10'" in text


def test_the_minima_are_those_of_the_installer():
    setup = (Path(__file__).parents[1] / 'setup.py').read_text()
    required = dict(re.findall(r"'([a-z-]+)>=([\d.]+)", setup.split('extras_require')[0]))
    assert required == dependencies.OTHERS
    onedl = dict(re.findall(r"'onedl-([a-z]+)>=([\d.]+)", setup))
    assert onedl == {**dependencies.OPENMMLAB, **dependencies.OPENMMLAB_OPTIONAL}


def test_too_old(installed):
    installed['onedl-mmengine'] = '0.10.8'
    text = message(installed)
    assert 'onedl-mmengine>=0.10.12 is needed, but version 0.10.8 was found' in text
    assert "pip install 'onedl-mmengine>=0.10.12'" in text


def test_mixed_families(installed):
    installed['mmengine'] = '0.10.7'
    text = message(installed)
    assert 'mmengine 0.10.7' in text and 'onedl-mmengine 0.10.12' in text
    assert 'pip uninstall -y mmengine && pip install --force-reinstall' in text


@pytest.mark.parametrize('name', ['mmengine-lite', 'mmcv-lite', 'mmcv-full'])
def test_other_distributions_of_the_upstream_family(installed, name):
    installed[name] = '1.7.2'
    text = message(installed)
    assert f'{name} 1.7.2 of the upstream family was found beside onedl-mmeng' in text
    assert f'pip uninstall -y {name} && pip install --force-reinstall' in text


def test_upstream_family_alone(installed):
    for name in [n for n in installed if n.startswith('onedl-')]:
        del installed[name]
    installed.update(mmengine='0.10.7', mmcv='2.1.0', mmpretrain='1.2.0')
    text = message(installed)
    assert 'pip uninstall -y mmengine mmcv mmpretrain' in text
    assert "'onedl-mmpretrain>=1.3.6'" in text


def test_torchvision_of_another_build(installed):
    installed['torch'] = '2.11.0'
    text = message(installed)
    assert 'torchvision 0.29.1 was built for torch==2.14.1, but torch 2.11.0' in text


def test_the_message_comes_first_in_a_real_process(tmp_path):
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


def test_without_packaging_there_is_a_message_too():
    code = "import sys; sys.modules['packaging'] = None; import mmcim"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-2:]
    assert last[0].startswith('ImportError: mmcim cannot be imported: packaging is not')
    assert last[1] == "  pip install 'packaging'"
