# Copyright (c) mmcim contributors. All rights reserved.
"""``mmcim see``: each kind of image, and what cannot be drawn."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

import mmcim_cli
from mmcim.utils import ConfigError

from ..backbone_files import write_backbone

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
KNOWN = dict(mean=[127.5] * 3, std=[127.5] * 3)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Networks, and four images in each of two classes, the first of them wide."""
    folder = tmp_path_factory.mktemp('see')
    torch.manual_seed(0)
    vit = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    for name, config in dict(vit=vit, resnet=dict(type='ResNet', depth=18)).items():
        network = MODELS.build(dict(config))
        network.init_weights()
        write_backbone(
            folder / f'{name}.safetensors', network.state_dict(), config, **KNOWN
        )
    network = MODELS.build(dict(type='DiscreteVAENet', stride=4, vocab_size=8, width=8))
    torch.save(network.state_dict(), folder / 'tokenizer.pth')
    random = np.random.default_rng(0)
    for i in range(8):
        path = folder / f'images/{"ab"[i % 2]}/{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (32, 32 + 8 * (i == 0), 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def see(folder, monkeypatch):
    """Draw, and give the image."""
    monkeypatch.chdir(folder)

    def draw(*arguments):
        mmcim_cli.run(mmcim_cli.parse(['see', *arguments, '--out', 'out.png']))
        return np.asarray(Image.open('out.png'))

    return draw


def test_attention_has_a_column_per_head(see):
    image = see('attention', 'vit.safetensors', 'images', '--num', '3', '--layer', '0')
    # Image, mean and two heads; 32 px enlarged three times, below title and heading.
    assert image.shape[0] == 3 * 16 + 3 * 100
    for column in range(4):
        patch = image[52:148, 4 + 100 * column : 100 + 100 * column]
        blocks = patch.reshape(4, 24, 4, 24, 3)
        is_map = (blocks == blocks[:, :1, :, :1]).all()
        assert is_map == (column > 0)
    # The most attended patch of a map is the brightest colour.
    assert patch.max() > 240 and (image[:, 404:] == 255).all(axis=2).mean() > 0.9


def test_components_of_transformers_and_convolutional_networks(see):
    image = see('pca', 'vit.safetensors', 'images', '--num', '2')
    assert image.shape[0] == 4 * 16 + 2 * 100
    image = see('pca', 'resnet.safetensors', 'images', '--num', '2', '--img-size', '64')
    assert image.shape[0] == 4 * 16 + 2 * 132
    map_ = image[68:196, 136:264]
    quarters = [map_[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]
    assert all((q == q[0, 0]).all() for q in quarters)


def test_neighbours_are_drawn_beside_their_query(see, folder, tmp_path):
    copy = tmp_path / 'copy.png'
    copy.write_bytes((folder / 'images/b/1.png').read_bytes())
    files = [str(folder / 'images'), str(copy)]
    image = see('neighbours', 'vit.safetensors', *files, '--num', '9', '-k', '2')
    row = 9 - 1  # the copy's
    top = 48 + row * 132
    query, nearest, other = (
        image[top + 4 : top + 100, 4 + 100 * i : 100 + 100 * i] for i in range(3)
    )
    assert (query == nearest).all() and not (query == other).all()
    caption = image[top + 100 : top + 132]
    assert (caption[:, :96] < 128).any() and (caption[:, 100:196] < 128).any()


def test_points_have_the_colours_of_their_folders(see):
    image = see('tsne', 'vit.safetensors', 'images')
    # Of tab10, at 80 % on white, in the points and in the legend.
    for colour in ([76, 146, 195], [255, 153, 62]):
        found = (np.abs(image.astype(int) - colour) <= 12).all(axis=2)
        assert found.sum() > 4 * 15


def test_codes_have_rows(see):
    image = see('codes', 'tokenizer.pth', 'images', '-k', '1', '--img-size', '32')
    assert image.shape[0] == 48 + 16 + 64
    files = sorted(map(str, ['images/a/0.png', 'images/b/1.png']))
    again = see('codes', 'tokenizer.pth', *files, '-k', '1', '--img-size', '32')
    assert again.shape[0] == image.shape[0]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['attention', 'resnet.safetensors', 'images'], 'ResNet has no known attention'),
        (['attention', 'vit.safetensors', 'images', '--layer', '2'], 'expected 0 to 1'),
        (
            ['pca', 'vit.safetensors', 'images', '--layer', '1'],
            '--layer is an option of',
        ),
        (['tsne', 'vit.safetensors', 'images', '-k', '1'], '-k is an option of neigh'),
        (['neighbours', 'vit.safetensors', 'images', '-k', '8'], 'k=8: expected 1 to 7'),
        (['tsne', 'vit.safetensors', 'images/a/0.png'], 't-SNE of 1 images'),
        (['pca', 'vit.safetensors', 'nowhere'], 'nowhere is not a folder'),
        (['pca', 'vit.safetensors', 'tokenizer.pth'], 'Cannot read the image.*tokenizer'),
        (['pca', 'tokenizer.pth', 'images'], 'tokenizer.pth does not say which network'),
        (
            ['codes', 'vit.safetensors', 'images'],
            'vit.safetensors is no tokenizer: ',
        ),
    ],
)
def test_errors_name_the_problem(see, arguments, message):
    with pytest.raises(ConfigError, match=message):
        see(*arguments)
