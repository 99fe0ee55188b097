# Copyright (c) mmcim contributors. All rights reserved.
"""Every data config gives batches that its preprocessor accepts."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

import mmcim  # noqa: F401  (registers what the configs name)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def first_batch(config, name):
    loader = config[name]
    loader.update(batch_size=4, num_workers=0, prefetch_factor=None)
    torch.manual_seed(0)
    np.random.seed(0)
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def load_config(repo, name, data_root=None):
    config = Config.fromfile(repo / f'configs/{name}.py')
    if data_root is not None:
        for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if config.get(key):
                dataset = config[key].dataset
                dataset.get('dataset', dataset).data_root = str(data_root)
    return config


def check_inputs(config, image_size, tokenizer_size):
    batch = first_batch(config, 'train_dataloader')
    inputs = batch['inputs']
    parts = inputs if isinstance(inputs, list) else [inputs]
    assert all(part.dtype == torch.uint8 for part in parts)
    preprocessor = MODELS.build(config.data_preprocessor)
    out = preprocessor(batch, training=True)['inputs']
    assert out['images'].shape == (4, 3, image_size, image_size)
    assert out['tokenizer_images'].shape == (4, 3, tokenizer_size, tokenizer_size)
    assert out['tokenizer_images'].min() >= 0 and out['tokenizer_images'].max() <= 1
    assert out['images'].abs().max() < 4
    return batch


@pytest.mark.parametrize(
    'name, image_size, tokenizer_size',
    [
        ('cim/vit-b_8xb256-300e', 224, 112),
        ('cim/vit-s_1xb128-300e_imagenette-128', 128, 64),
        ('tokenizer/dvae-f4-v512_1xb64-50e_folder-128', 128, 64),
    ],
)
def test_cim_from_images(repo, imagenette_mini, name, image_size, tokenizer_size):
    config = load_config(repo, name, imagenette_mini)
    check_inputs(config, image_size, tokenizer_size)


def test_folder_of_images(repo, imagenette_mini):
    config = load_config(repo, 'images/vit_cim_respix', imagenette_mini)
    check_inputs(config, 64, 32)
    assert config.model.enhancer.backbone.img_size == 64
    config = load_config(repo, 'images/vit_finetune', imagenette_mini)
    preprocessor = MODELS.build(config.data_preprocessor)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        data = preprocessor(first_batch(config, loader))
        assert data['inputs'].shape == (4, 3, 64, 64)
        assert all('gt_label' in sample for sample in data['data_samples'])


def test_cim_from_digits(repo):
    config = load_config(repo, 'quickstart/cim_respix')
    check_inputs(config, 24, 24)
    # The normalisation is the training digits' own.
    dataset = Runner.build_dataloader(config.train_dataloader).dataset
    images = np.stack([dataset.get_data_info(i)['img'] for i in range(len(dataset))])
    assert images.mean() == pytest.approx(config.data_preprocessor.mean[0], abs=0.1)
    assert images.std() == pytest.approx(config.data_preprocessor.std[0], abs=0.1)


@pytest.mark.parametrize(
    'name, size',
    [
        ('benchmarks/linear_8xb2048-90e_in1k', 224),
        ('benchmarks/linear_1xb128-90e_imagenette-128', 128),
        ('quickstart/finetune', 24),
    ],
)
def test_classification(repo, request, name, size):
    root = None
    if name.startswith('benchmarks'):
        root = request.getfixturevalue('imagenette_mini')
    config = load_config(repo, name, root)
    config.data_preprocessor.setdefault('type', 'ClsDataPreprocessor')
    preprocessor = MODELS.build(config.data_preprocessor)
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        data = preprocessor(first_batch(config, loader))
        assert data['inputs'].shape == (4, 3, size, size)
        assert all(0 <= int(s.gt_label) < 10 for s in data['data_samples'])
