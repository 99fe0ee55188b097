# Copyright (c) mmcim contributors. All rights reserved.
"""``mmcim embed``: features and names of a folder in one file, or an error."""

import os

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

import mmcim_cli
from mmcim.apis import extract_features, load_backbone
from mmcim.utils import ConfigError

from ..backbone_files import write_backbone

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
NAMES = ['0.tif', 'a/1.png', 'a/3.PNG', 'b/2.png', 'b/c/4.bmp']


@pytest.fixture(scope='module')
def backbone(tmp_path_factory):
    """A small ViT for 32 px; the path of its file."""
    torch.manual_seed(0)
    config = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    config['out_type'] = 'featmap'
    network = MODELS.build(dict(config))
    network.init_weights()
    path = tmp_path_factory.mktemp('backbone') / 'vit_backbone.safetensors'
    known = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0])
    write_backbone(path, network.state_dict(), config, **known)
    return str(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five images of different sizes, one of them grey, in ``images`` below here."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (30 + i, 40, 3)[: 2 + (i > 0)]
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
    return tmp_path


def embed(backbone, *options, out='features.npz'):
    command = ['embed', 'images', '--backbone', backbone, '--out', out]
    mmcim_cli.run(mmcim_cli.parse([*command, '--device', 'cpu', *options]))
    with np.load(out) as file:
        return file['features'], file['names']


@pytest.mark.parametrize(
    'options', ['', '--num-workers 2 --batch-size 2', '--num-workers 0 --batch-size 3']
)
def test_rows_are_features_of_names(backbone, folder, options):
    features, names = embed(backbone, *options.split())
    assert names.tolist() == NAMES
    assert features.shape == (5, 32) and features.dtype == np.float32
    network = load_backbone(backbone)
    for row, name in zip(features, NAMES):
        (expected,) = extract_features(network, [folder / 'images' / name])
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)


def test_size_of_images(backbone, folder):
    features, _ = embed(backbone, '--img-size', '48')
    expected = extract_features(load_backbone(backbone), 'images', img_size=48)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
    assert not np.allclose(features, embed(backbone)[0], atol=1e-3)


def test_names_need_not_be_utf8(backbone, folder):
    new = os.fsencode(folder / 'images') + b'/\xff.png'
    os.rename(folder / 'images/a/1.png', new)
    names = embed(backbone)[1].tolist()
    assert len(names) == 5 and os.fsencode(names[-1]) == b'\xff.png'


@pytest.mark.parametrize('workers', ['0', '2'])
def test_unreadable_image_leaves_no_file(backbone, folder, capsys, workers):
    (folder / 'images/b/2.png').write_bytes(b'no image')
    (folder / 'out').mkdir()
    options = ['--num-workers', workers, '--batch-size', '2', '--device', 'cpu']
    command = ['embed', 'images', '--backbone', backbone, '--out', 'out/f.npz']
    with pytest.raises(SystemExit) as error:
        mmcim_cli.main([*command, *options])
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: Cannot read the image 'images/b/2.png': ")
    assert printed.count('\n') == 1
    assert os.listdir(folder / 'out') == []


@pytest.mark.slow
def test_what_does_not_exist_is_one_line(backbone, folder):
    with pytest.raises(ConfigError, match='--device nonsense: ') as error:
        embed(backbone, '--device', 'nonsense')
    assert '\n' not in str(error.value)
    with pytest.raises(ConfigError, match='--device cuda:99: '):
        embed(backbone, '--device', 'cuda:99')
    with pytest.raises(ConfigError, match='gone.safetensors'):
        embed('gone.safetensors')
    assert not (folder / 'features.npz').exists()
