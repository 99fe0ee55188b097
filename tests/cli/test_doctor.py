# Copyright (c) mmcim contributors. All rights reserved.
"""The doctor, where things are there and where they are not."""

import argparse
import os
import shutil
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from PIL import Image

from mmcim.cli import doctor
from mmcim.dependencies import INSTALL_MMDET
from mmcim.utils import ConfigError

from ..conftest import REPO


@pytest.fixture
def diagnose(monkeypatch, capsys):
    """Run some of the checks; the exit code and what is printed."""

    def run(*checks, data=None):
        names = ('_packages', '_devices', '_import', '_files', '_images')
        for name in set(names) - set(checks):
            monkeypatch.setattr(doctor, name, lambda args: iter(()))
        try:
            doctor.run(argparse.Namespace(data=data))
            code = 0
        except SystemExit as error:
            code = error.code
        return code, capsys.readouterr().out

    return run


def test_this_environment_passes(diagnose):
    code, printed = diagnose('_packages', '_devices')
    assert code == 0
    assert 'Python 3.' in printed and 'torch' in printed


def test_missing_and_old_packages(diagnose, monkeypatch):
    required = ['torch>=2.6', 'rich>=99', 'nowhere>=1', 'absent>=2; extra == "hf"']
    required += ['forgotten; extra == "dev"', 'lacking>=3; extra == "det"']
    monkeypatch.setattr(metadata, 'requires', lambda name: required)
    code, printed = diagnose('_packages')
    assert code == 1
    assert 'BROKEN   nowhere not installed (>=1)' in printed
    assert "Fix with: pip install 'nowhere>=1'" in printed
    assert f'BROKEN   rich {metadata.version("rich")} (>=99)' in printed
    assert 'optional absent not installed (>=2)' in printed
    assert "Fix with: pip install 'absent>=2'" in printed
    assert f'ok       torch {metadata.version("torch")}' in printed
    assert 'optional lacking not installed (>=3)' in printed
    assert f'Fix with: {INSTALL_MMDET}' in printed
    assert 'forgotten' not in printed


def test_optional_packages_and_files_break_nothing(diagnose, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/imagenet/train').mkdir(parents=True)
    code, printed = diagnose('_files')
    assert code == 0
    assert 'ok       ImageNet' in printed
    assert 'optional ADE20K' in printed
    assert 'mmcim convert-dalle encoder.pkl decoder.pkl' in printed


def test_graphics_cards(diagnose, monkeypatch):
    """A V100 is older than what torch 2.14 has kernels for."""
    cuda = dict(
        device_count=2,
        get_device_capability=(7, 0),
        get_arch_list=['sm_75', 'sm_90'],
        get_device_name='Tesla V100',
        is_available=True,
    )
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    code, printed = diagnose('_devices')
    assert code == 1
    assert 'BROKEN   GPU 1: Tesla V100, compute capability 7.0' in printed
    assert 'Fix with: pip install torch==2.8.0 torchvision==0.23.0' in printed
    cuda = dict(device_count=0, is_available=False)
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, lambda *args, value=value: value)
    monkeypatch.setattr(shutil, 'which', lambda name: name)
    code, printed = diagnose('_devices')
    assert code == 0 and printed.splitlines()[-1].startswith('mmcim runs here')
    assert printed.startswith('missing  no GPU; torch is built for C')
    assert 'Fix with: a newer driver, or a build of torch for this one: pip' in printed


def test_upstream_beside_onedl(diagnose, monkeypatch):
    error = 'Traceback\nImportError: mmengine was found. Fix with:\n  pip uninstall\n'
    done = subprocess.CompletedProcess([], 1, '', error)
    monkeypatch.setattr(subprocess, 'run', lambda *args, **kwargs: done)
    code, printed = diagnose('_import')
    assert code == 1
    assert 'exit code 1: mmengine was found. Fix with:\n  pip uninstall' in printed


def test_mmdetection_that_cannot_be_imported(diagnose, monkeypatch):
    """As without a package that ``pip install --no-deps`` has left out."""
    error = "Traceback\nModuleNotFoundError: No module named 'shapely'\n"
    monkeypatch.setattr(doctor, 'find_spec', lambda name: True)

    def run(command, **kwargs):
        failed = int('mmdet' in command[-1])
        return subprocess.CompletedProcess([], failed, '', error * failed)

    monkeypatch.setattr(subprocess, 'run', run)
    code, printed = diagnose('_import')
    assert code == 0
    assert 'ok       import mmcim\n' in printed
    assert 'missing  import mmcim, mmdet.models, mmdet.datasets: exit code 1: ' in printed
    assert f"No module named 'shapely'\n         Fix with: {INSTALL_MMDET}" in printed


def test_import_that_crashes_without_a_word(diagnose, monkeypatch):
    """As with a build for another processor."""
    done = subprocess.CompletedProcess([], -11, '', '')
    monkeypatch.setattr(subprocess, 'run', lambda *args, **kwargs: done)
    code, printed = diagnose('_import')
    assert code == 1
    assert printed.startswith('BROKEN   import mmcim: exit code -11: \n')


def test_folder_of_images(diagnose, tmp_path):
    with pytest.raises(ConfigError, match='has no images'):
        diagnose('_images', data=tmp_path)
    for i in range(80):
        (tmp_path / 'ab'[i % 2]).mkdir(exist_ok=True)
        pixels = np.tile(np.uint8([i, 60, 200]), (4, 4, 1))
        Image.fromarray(pixels).save(tmp_path / 'ab'[i % 2] / f'{i}.png')
    code, printed = diagnose('_images', data=tmp_path)
    assert code == 0
    assert f'{tmp_path}: all readable, 80 images in 2 classes' in printed
    # Of 0, ..., 79: 39.5 and sqrt((80**2 - 1) / 12); a constant channel has 1.
    assert 'mean=[39.5, 60.0, 200.0], std=[23.1, 1.0, 1.0]' in printed


def test_it_works_without_torch(tmp_path):
    (tmp_path / 'torch.py').write_text("raise ImportError('undefined symbol')")
    done = subprocess.run(
        [sys.executable, '-m', 'mmcim_cli', 'doctor'],
        env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{REPO}'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'BROKEN   import mmcim: exit code 1: undefined symbol' in done.stdout
    assert 'Fix with: pip install' in done.stdout
    assert 'Traceback' not in done.stdout + done.stderr
