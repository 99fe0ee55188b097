# Copyright (c) mmcim contributors. All rights reserved.
"""What is chosen for a folder of images."""

import pytest
from PIL import Image

from mmcim.presets import Preset, choose, choose_size, choose_window
from mmcim.utils import ConfigError

VIT_S = dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536)


@pytest.mark.parametrize('gpu', [False, True])
@pytest.mark.parametrize('img_size', [64, 128, 224])
def test_sizes_fit_together(img_size, gpu):
    values = choose(3000, img_size, gpu, {}).values
    patch, arch = values['size']['patch_size'], values['arch']
    # The patches that a ViT-S has at 224 px are the most for a GPU.
    assert 64 <= (img_size // patch) ** 2 <= (256 if gpu else 196)
    assert img_size % patch == 0
    assert arch['embed_dims'] % (2 * arch['num_heads']) == 0
    assert arch['feedforward_channels'] == 4 * arch['embed_dims']
    assert values['lr'] * arch['embed_dims'] == pytest.approx(1.5e-3 * 128)


def test_a_batch_has_no_more_images_than_there_are():
    assert choose(300, 64, True, {}).values['batch_size'] == 128
    assert choose(30, 64, True, {}).values['batch_size'] == 30


def test_weights_settle_the_network_and_a_smaller_learning_rate():
    network = dict(patch_size=16, arch=VIT_S, relative=False)
    values = choose(300, 128, False, network).values
    assert values['size'] == dict(img_size=128, patch_size=16)
    assert values['arch'] == VIT_S and values['vit'] == 'VisionTransformer'
    assert values['lr'] == pytest.approx(1e-4)
    values = choose(300, 128, False, dict(depth=50, width=2048)).values
    assert values['resnet'] == dict(depth=50) and values['resnet_width'] == 2048


def test_a_size_that_is_no_multiple_of_the_patches_is_refused():
    for size in (100, 80):
        with pytest.raises(ConfigError, match=f'--img-size {size}: expected a multiple'):
            choose(300, size, False, {})
    with pytest.raises(ConfigError, match='multiple of 224 px'):
        choose(300, 160, False, dict(patch_size=14, arch=VIT_S))


def test_size_follows_images_and_device(tmp_path):
    files = []
    for i, size in enumerate([(80, 300), (150, 140), (500, 400)]):
        files.append(str(tmp_path / f'{i}.png'))
        Image.new('L', size).save(files[-1])
    assert choose_size(files, True, {}) == 128  # the median short side is 140
    assert choose_size(files[2:], True, {}) == 224
    assert choose_size(files[:1], True, {}) == 64
    assert choose_size(files, False, {}) == 64
    assert choose_size(files, True, dict(patch_size=16)) == 224
    assert choose_size(files, False, dict(patch_size=16)) == 128


@pytest.mark.parametrize('gpu', [False, True])
@pytest.mark.parametrize('patch', [8, 14, 16, 32])
def test_size_for_any_weights_is_one_that_is_accepted(patch, gpu):
    network = dict(patch_size=patch, arch=VIT_S)
    size = choose_size([], gpu, network)
    values = choose(300, size, gpu, network).values
    assert size >= 64 and values['size'] == dict(img_size=size, patch_size=patch)


def test_window_is_the_smallest_that_tokens_can_show():
    assert choose_window({8: 0.1, 16: 0.4, 32: 0.6, 64: 0.8}) == 32
    assert choose_window({8: 0.0, 16: 0.1, 32: 0.2, 64: 0.3}) == 64


def test_a_preset_is_a_file_with_reasons():
    preset = Preset()
    preset.choose('because', lr=0.1, batch_size=4)
    assert preset.choose('measured', lr=0.2) == '# measured\nlr = 0.2\n'
    assert str(preset) == '# because\nbatch_size = 4\n# measured\nlr = 0.2\n'
    values = {}
    exec(str(preset), values)
    assert values['lr'] == 0.2 and values['batch_size'] == 4


@pytest.mark.parametrize(
    'config, vit, resnet, mask',
    [
        ('vit_mae', False, False, False),
        ('vit_cim_revdet', True, False, True),
        ('resnet_mocov3', False, True, False),
        ('resnet_cim_respix', False, True, True),
    ],
)
def test_only_what_a_config_uses_and_is_known_is_described(config, vit, resnet, mask):
    text = choose(300, 64, False, {}).used_by(config)
    assert ("vit = 'FixedPositionViT'\n" in text) == vit
    assert ('resnet_width = 512\n' in text) == resnet
    assert ('mask_ratio = 0.5\n' in text) == mask
    assert "'embed_dims': 128" in text and 'tokenizer' not in text
