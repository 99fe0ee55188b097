# Copyright (c) mmcim contributors. All rights reserved.
"""Real data for tests, if available, and a screen to look at."""

import io
import os
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

# The same numbers on CPUs that multiply bfloat16: all processes compute in float32.
os.environ.setdefault('ONEDNN_MAX_CPU_ISA', 'AVX512_CORE_VNNI')

REPO = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get('MMCIM_SHARED', REPO.parent / 'shared'))


def pytest_runtest_setup(item) -> None:
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('needs a GPU: make test-gpu')


def shared_file(relative: str) -> Path:
    path = SHARED / relative
    if not path.is_file():
        pytest.skip(f'{relative} is not in {SHARED} (MMCIM_SHARED names the folder)')
    return path


def is_readable(config: Path) -> bool:
    """Whether all that a config inherits from is installed."""
    return 'detection' not in config.parts or find_spec('mmdet') is not None


@pytest.fixture(scope='session')
def repo() -> Path:
    """The repository's root."""
    return REPO


@pytest.fixture
def screen(monkeypatch):
    """Make a screen, a terminal or a pipe; what is on it: ``screen(True)()``."""
    from mmcim.utils import terminal

    def make(is_terminal, width=200):
        file = io.StringIO()
        console = Console(
            file=file,
            width=width,
            force_terminal=is_terminal,
            highlight=False,
            soft_wrap=True,
            color_system=None,
        )
        monkeypatch.setattr(terminal, 'Console', lambda **kwargs: console)
        terminal.live.cache_clear()
        return file.getvalue

    yield make
    terminal.live.cache_clear()


def init_weights(model) -> None:
    """Initialise a model and check that no requires_grad changes.

    DistributedDataParallel asks for it before, and waits for these gradients.
    """
    before = {name: param.requires_grad for name, param in model.named_parameters()}
    model.init_weights()
    assert before == {name: p.requires_grad for name, p in model.named_parameters()}


def unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter='data')


@pytest.fixture(scope='session')
def imagenette_mini(tmp_path_factory) -> Path:
    """Imagenette images at 224 px: train/<class>/*.JPEG and val/<class>/*.JPEG."""
    folder = tmp_path_factory.mktemp('data')
    unpack(shared_file('data/imagenette_mini_224.tar'), folder)
    return folder / 'imagenette_mini'


@pytest.fixture(scope='session')
def camvid(tmp_path_factory) -> Path:
    """CamVid at 240 x 180 px in SegNet's layout, 11 classes and 11 for void."""
    folder = tmp_path_factory.mktemp('data')
    unpack(shared_file('data/camvid_ade_240x180_q90.tar'), folder)
    folder /= 'camvid'
    splits = dict(training='train', validation='val', test='test')
    for source, split in splits.items():
        (folder / 'images' / source).rename(folder / split)
        for path in (folder / split).iterdir():
            path.rename(path.with_suffix('.png'))  # readers look at its contents
        (folder / 'annotations' / source).rename(folder / f'{split}annot')
        for path in (folder / f'{split}annot').iterdir():
            labels = np.asarray(Image.open(path))  # 0 is void, 1 the first class
            Image.fromarray(np.where(labels == 0, 11, labels - 1)).save(path)
    return folder


@pytest.fixture(scope='session')
def ade20k_sample(tmp_path_factory) -> Path:
    """Three of ADE20K's validation images: {images,annotations}/ADE_val_*."""
    folder = tmp_path_factory.mktemp('data')
    unpack(shared_file('data/ade20k_sample.tar'), folder)
    return folder / 'ade20k_sample/sampleData'


@pytest.fixture(scope='session')
def vqvae_weights() -> Path:
    """A real discrete tokenizer: VQ-VAE, stride 4, 512 codes."""
    return shared_file('weights/vqvae_f4_512.pt')
