# Copyright (c) mmcim contributors. All rights reserved.
"""``mmcim pretrain`` as a process, from folders of all kinds."""

import re

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image

import mmcim_cli
from mmcim.apis import extract_features, load_backbone

from .toy_run import run_forked

pytestmark = pytest.mark.slow

# tests/configs makes a step of every method.
VITS = ('beit', 'mocov3')
RESNETS = ('cim_revdet',)
KINDS = ('grey', '16-bit', 'rgb')
SMALL = 'import mmcim; p = mmcim.presets; p._VITS = dict.fromkeys(p._VITS, (32, 2, 2))'
STOP = f"""{SMALL}
import os
import signal
from mmengine.hooks import IterTimerHook
def stop(self, runner, *args, **kwargs):
    if runner.iter == 4:
        os.kill(os.getpid(), signal.SIGTERM)
IterTimerHook._before_iter = stop
"""


def write_images(folder, number, kind='rgb'):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(number):
        pixels = random.integers(0, 256, (70, 80, 3), np.uint8)
        pixels = {'grey': pixels[..., 0], '16-bit': pixels[..., 0] * np.uint16(257)}.get(
            kind, pixels
        )
        Image.fromarray(pixels).save(folder / f'{i}.png')


def command(*words):
    return [mmcim_cli.__file__, 'pretrain', *words, '--epochs', '1']


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """All methods share the first one's tokenizer."""
    folder = tmp_path_factory.mktemp('pretrain')
    for name in 'ab':
        write_images(folder / f'images/{name}', 20)
    for kind in KINDS:
        write_images(folder / 'flat' / kind, 8, kind)
    torch.save(timm.create_model('vit_tiny_patch16_224').state_dict(), folder / 'ti.pth')
    cases = {'first': command('images', '--budget', '1s')[:-2]}
    cases['stopped'] = command('images', '--method', 'mae')
    cases['mae'] = [*cases['stopped'], '--resume', '--img-size', '128']
    cases |= {m: command('images', '--method', m) for m in VITS}
    resnet = ('images', '--arch', 'resnet', '--method')
    cases |= {f'resnet {m}': command(*resnet, m) for m in RESNETS}
    flat = ('flat/16-bit', '--measure', '--method', 'mae', '--img-size', '128')
    cases['flat'] = command(*flat, '--out', 'flat out')
    large = ('flat', '--method', 'beit', '--img-size', '224', '--out', 'large')
    cases['large'] = command(*large)
    cases['from'] = command('images', '--from', 'ti.pth', '--out', 'from')
    cases['again'] = [mmcim_cli.__file__, 'train', 'work_dirs/images/vit_mae/config.py']
    cases['again'] += ['--work-dir', 'again']
    cases['finetuned'] = [mmcim_cli.__file__, 'train']
    cases['finetuned'] += ['work_dirs/images/vit_mae/finetune.py', '--pretrained']
    cases['finetuned'] += ['work_dirs/images/vit_mae/iter_10_backbone.safetensors']
    cases['finetuned'] += ['--cfg-options', 'train_cfg.max_epochs=1']
    cases['finetuned'] += ['param_scheduler=None', 'train_dataloader.drop_last=False']
    return folder, run_forked(
        cases, folder, {**dict.fromkeys(cases, SMALL), 'stopped': STOP}
    )


def test_first_look_at_a_folder(runs):
    folder, results = runs
    output = results['first'].output
    assert results['first'].code == 0, output
    steps = ('40 images in 2 classes', 'public weights', 'dvae: ', 'images/s: 10 it')
    steps += ('Training DiscreteVAETrainer', 'tokens explain', 'Training CIM')
    steps += ('The backbone: ', 'Linear probe of pre-trained', 'Linear probe of random')
    steps += ('\nNext:\n  mmcim embed',)
    places = [output.index(step) for step in steps]
    assert places == sorted(places)
    assert output.count('Next:') == 1
    run = folder / 'work_dirs/images/vit_cim_respix'
    text = (run / 'config.py').read_text()
    assert text.startswith('# 8 x 8 patches\n#     size = ')
    backbone = run / 'iter_10_backbone.safetensors'
    assert f'mmcim embed {folder}/images --backbone {backbone}' in output
    features = extract_features(load_backbone(backbone), folder / 'images')
    assert features.shape == (40, 32)


@pytest.mark.parametrize('name', [*VITS, *(f'resnet {m}' for m in RESNETS)])
def test_methods_share_a_tokenizer(runs, name):
    folder, results = runs
    output = results[name].output
    assert results[name].code == 0, output
    # The tokenizer is trained once.
    assert 'Training DiscreteVAETrainer' not in output
    assert (
        len(re.findall(r'Linear probe of [\w-]+ weights: \d+\.\d % top-1', output)) == 2
    )
    arch, _, method = name.rpartition(' ')
    run = folder / f'work_dirs/images/{arch or "vit"}_{method}'
    assert load_backbone(run / 'iter_10_backbone.safetensors')


def test_images_of_16_bits_without_classes(runs):
    folder, results = runs
    assert results['flat'].code == 0, results['flat'].output
    assert 'Linear probe' not in results['flat'].output
    cfg = Config.fromfile(folder / 'flat out/vit_mae/config.py')
    assert cfg.model.backbone.img_size == 128
    assert cfg.data_preprocessor.mean == pytest.approx([127.5] * 3, abs=3)


def test_images_of_all_kinds_at_224_px(runs):
    folder, results = runs
    assert results['large'].code == 0, results['large'].output
    run = folder / 'large'
    assert (
        Config.fromfile(run / 'tokenizer_224px_patch16/config.py').tokenizer_size == 112
    )
    backbone = load_backbone(run / 'vit_beit/iter_10_backbone.safetensors')
    assert backbone.img_size == (224, 224) and backbone.patch_resolution == (14, 14)


def test_from_public_weights(runs):
    folder, results = runs
    output = results['from'].output
    assert results['from'].code == 0, output
    assert 'public weights gives better' not in output
    assert re.search(r'Backbone weights: (\d+) of \1 tensors matched', output), output
    assert 'Linear probe of public weights' in output
    backbone = load_backbone(folder / 'from/vit_cim_respix/iter_10_backbone.safetensors')
    assert backbone.embed_dims == 192 and backbone.patch_resolution == (8, 8)
    # Ten small steps from the public weights.
    public = torch.load(folder / 'ti.pth')['blocks.0.mlp.fc1.weight']
    trained = backbone.layers[0].ffn.layers[0][0].weight
    assert 0 < (trained - public).abs().max() < 0.01


def test_the_saved_config_trains_again_by_itself(runs):
    folder, results = runs
    assert results['again'].code == 0, results['again'].output
    assert (folder / 'again/iter_10_backbone.safetensors').is_file()


def test_the_saved_config_fine_tunes(runs):
    folder, results = runs
    assert results['finetuned'].code == 0, results['finetuned'].output
    assert (folder / 'work_dirs/images/vit_mae/finetune/epoch_1.pth').is_file()


def test_resuming_keeps_what_was_chosen(runs):
    folder, results = runs
    run = folder / 'work_dirs/images/vit_mae'
    assert results['stopped'].code == 143, results['stopped'].output
    assert results['mae'].code == 0, results['mae'].output
    assert 'iteration 5 of 10' in results['mae'].output
    assert Config.fromfile(run / 'config.py').model.backbone.img_size == 64
    assert (run / 'iter_10.pth').is_file()
    case = {'refused': command('images', '--method', 'mae', '--img-size', '128')}
    refused = run_forked(case, folder)['refused']
    assert refused.code == 2
    assert 'vit_mae: has a run; --resume or another --out' in refused.output
