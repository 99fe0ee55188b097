# Copyright (c) mmcim contributors. All rights reserved.
"""Real data for tests, where it is at hand."""

import os
import tarfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get('MMCIM_SHARED', REPO.parent / 'shared'))


def shared_file(relative: str) -> Path:
    path = SHARED / relative
    if not path.is_file():
        pytest.skip(f'{relative} is not in {SHARED} (MMCIM_SHARED names the folder)')
    return path


@pytest.fixture(scope='session')
def repo() -> Path:
    """The repository's root."""
    return REPO


@pytest.fixture(scope='session')
def imagenette_mini(tmp_path_factory) -> Path:
    """Imagenette pictures at 224 px: train/<class>/*.JPEG and val/<class>/*.JPEG."""
    archive = shared_file('data/imagenette_mini_224.tar')
    folder = tmp_path_factory.mktemp('data')
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter='data')
    return folder / 'imagenette_mini'


@pytest.fixture(scope='session')
def vqvae_weights() -> Path:
    """A real discrete tokenizer: VQ-VAE, stride 4, 512 codes."""
    return shared_file('weights/vqvae_f4_512.pt')
