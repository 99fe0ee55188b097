# Copyright (c) mmcim contributors. All rights reserved.
"""What ``mmcim.pretrain`` does before it trains; tests/cli/test_pretrain.py trains."""

from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from PIL import Image

import mmcim
from mmcim.apis.pretrain import Folder, Length, _seconds
from mmcim.checkpoints.public import PublicWeights
from mmcim.cli import benchmark
from mmcim.paths import write_config
from mmcim.utils import ConfigError


@pytest.fixture
def images(tmp_path):
    """Two classes of 20 images, and a folder without classes."""
    for name in ('images/a', 'images/b', 'flat'):
        (tmp_path / name).mkdir(parents=True)
        for i in range(20):
            Image.new('L', (70, 80), 10 * i).save(tmp_path / name / f'{i}.png')
    return tmp_path


def chosen(folder, name='vit_mae', **options):
    pretraining = Folder(folder, folder.parent / 'out', name)
    pretraining.choose(64, PublicWeights(), **{'measure': False, **options})
    return pretraining


def test_a_budget_is_a_number_and_a_unit():
    assert [_seconds(text) for text in ('90s', '30min', '1.5 h')] == [90, 1800, 5400]
    for text in ('30', 'min', '30 days', '-1h', ''):
        with pytest.raises(ConfigError, match='budget: expected a number, and s, min'):
            _seconds(text)


@pytest.mark.parametrize(
    'length, share, iterations',
    [
        (Length(seconds=100, epochs=None), 1, 125),  # 40 images/s in batches of 32
        (Length(seconds=100, epochs=None), 0.5, 62),
        (Length(seconds=100, epochs=8), 1, 150),  # 600 images
        (Length(seconds=1, epochs=None), 1, 10),  # never fewer
    ],
)
def test_iterations_fit_time_or_epochs(length, share, iterations, monkeypatch):
    monkeypatch.setattr(benchmark, 'images_per_second', lambda cfg: 40.0)
    cfg = Config(dict(train_dataloader=dict(batch_size=32)))
    assert length.iterations(cfg, 600, share) == iterations


def test_unknown_methods_and_folders_are_named(images):
    with pytest.raises(
        ConfigError, match='no vit_dino; arch and method are one of .*vit_mae'
    ):
        mmcim.pretrain(images / 'flat', method='dino')
    with pytest.raises(ConfigError, match='no vit_finetune'):
        mmcim.pretrain(images / 'flat', method='finetune')
    with pytest.raises(ConfigError, match='no resnet_mae'):
        mmcim.pretrain(images / 'flat', method='mae', arch='resnet')
    with pytest.raises(ConfigError, match='nowhere is not a folder'):
        mmcim.pretrain(images / 'nowhere', method='mae')


def test_classes_keep_a_fifth_for_validation(images):
    pretraining = chosen(images / 'images')
    values = pretraining.preset.values
    assert values['images']['subset'] == 'train' and values['num_classes'] == 2
    dataset = mmcim.datasets.ImageFolder(**no_type(values['images']), pipeline=[])
    assert 0 < len(dataset) < 40 and len(dataset) == len(pretraining.files)


def test_without_classes_all_images_are_used(images):
    pretraining = chosen(images / 'flat')
    dataset = pretraining.load('vit_mae').train_dataloader.dataset
    assert 'subset' not in dataset and not dataset.with_label
    assert len(pretraining.files) == 20


def no_type(config):
    return {k: v for k, v in config.items() if k != 'type'}


def test_mean_and_std_are_measured_on_request(images):
    assert chosen(images / 'flat').preset.values['normalize']['mean'][0] == 123.675
    measured = chosen(images / 'flat', measure=True).preset
    # Levels 0, 10, ... 190.
    assert measured.values['normalize']['mean'] == pytest.approx([95.0] * 3)
    assert measured.reasons['normalize'] == 'measured on these images'


def test_no_time_and_no_epochs_are_refused():
    for wrong in (dict(seconds=0, epochs=None), dict(seconds=1, epochs=-1)):
        with pytest.raises(ConfigError, match='expected more than 0'):
            Length(**wrong)


def test_a_class_that_cannot_be_validated_is_no_class(images):
    (images / 'images/c').mkdir()
    Image.new('L', (70, 80)).save(images / 'images/c/1.png')
    assert chosen(images / 'images').classes == []


def test_train_and_val_are_no_classes(images):
    (images / 'images/a').rename(images / 'images/train')
    (images / 'images/b').rename(images / 'images/val')
    with pytest.raises(ConfigError, match='has train and val: give .*/images/train'):
        chosen(images / 'images')


def test_an_empty_folder_is_named(images):
    (images / 'empty').mkdir()
    with pytest.raises(ConfigError, match='empty has no images'):
        chosen(images / 'empty')


def test_configs_for_other_images_are_refused(images):
    pretraining = chosen(images / 'flat')
    assert not pretraining.has(pretraining.config)
    other = chosen(images / 'images')
    write_config(other.load('vit_mae'), other.config, images / 'work')
    assert other.has(other.config)
    with pytest.raises(ConfigError, match='for .*/images: give another --out'):
        pretraining.has(pretraining.config)


def test_weights_that_do_not_fit_are_refused_before_anything_is_trained(images):
    tensors = timm.create_model('vit_tiny_patch16_224', init_values=1.0).state_dict()
    torch.save(tensors, images / 'layer_scale.pth')
    with pytest.raises(ConfigError, match='layer_scale.pth'):
        mmcim.pretrain(
            images / 'flat', weights=str(images / 'layer_scale.pth'), out=images / 'out'
        )
    assert not list(images.glob('out/*'))


def test_few_images_get_advice(images, capsys):
    chosen(images / 'flat')
    assert 'starting from public weights gives better features' in capsys.readouterr().out


def test_configs_of_tasks_are_written_for_classes_alone(images):
    chosen(images / 'flat').write_tasks()
    folder = images / 'out/vit_mae'
    assert not folder.exists()
    chosen(images / 'images').write_tasks()
    assert sorted(path.name for path in folder.iterdir()) == ['finetune.py', 'probe.py']
    cfg = Config.fromfile(folder / 'finetune.py')
    assert cfg.model.head.num_classes == 2
    assert Path(cfg.work_dir) == folder / 'finetune'
