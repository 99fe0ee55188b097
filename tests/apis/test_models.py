# Copyright (c) mmcim contributors. All rights reserved.
"""Backbones from files, and mmpretrain's FeatureExtractor on our configs."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import FeatureExtractor, get_model
from mmpretrain.registry import MODELS
from PIL import Image
from torch.testing import assert_close

from mmcim.apis import extract_features, load_backbone
from mmcim.checkpoints import BackboneRecord, read_weights
from mmcim.checkpoints.record import find_backbone_config, tensors_sha256
from mmcim.utils import ConfigError

from .conftest import ARCH, MEAN, STD


def test_load_backbone(vit):
    network = load_backbone(vit)
    assert type(network).__name__ == 'VisionTransformer'
    assert not network.training
    for name, value in read_weights(vit).tensors.items():
        assert torch.equal(network.state_dict()[name], value)
    assert network.normalization == (MEAN, STD)


def test_position_embeddings_are_resized(vit):
    network, larger = load_backbone(vit), load_backbone(vit, img_size=48)
    assert larger.pos_embed.shape == (1, 37, 32)
    assert torch.equal(larger.pos_embed[:, 0], network.pos_embed[:, 0])
    # The original network resizes them in each forward pass.
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = larger(images)[-1], network(images)[-1]
    assert torch.cosine_similarity(found, expected, dim=1).min() > 0.999


def test_file_without_backbone_raises(tmp_path):
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(ConfigError, match='does not say which network'):
        load_backbone(tmp_path / 'a.pth')


@pytest.fixture
def image(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / 'image.png'
    pixels = random.integers(0, 256, (160, 160, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((300, 300)).save(path)
    return path


def small_config(repo, name):
    """A config with a small network, as --cfg-options would make it."""
    cfg = Config.fromfile(repo / 'configs' / name)
    model = cfg.model.get('enhancer', cfg.model)
    if model.backbone.type == 'ResNet':
        model.backbone.depth = 18
    else:
        model.backbone.arch = dict(ARCH)
    model.backbone.pop('init_cfg', None)
    return cfg


@pytest.mark.parametrize(
    'name',
    [
        'cim/vit-b_8xb256-300e.py',
        'cim/vit-s_revdet_1xb128-300e_imagenette-128.py',
        'cim/resnet50_revdet_8xb256-300e.py',
    ],
)
def test_features_of_a_pretraining_checkpoint(repo, tmp_path, image, name):
    """Nobody needs the tokenizer's weights; the result is the backbone's."""
    cfg = small_config(repo, name)
    torch.manual_seed(0)
    backbone = MODELS.build(cfg.model.enhancer.backbone)
    backbone.init_weights()
    tensors, prefix = backbone.state_dict(), 'enhancer.backbone.'
    state = {prefix + name: value for name, value in tensors.items()}
    state['generator.head.weight'] = torch.zeros(1)
    checkpoint = tmp_path / 'epoch_1.pth'
    config = find_backbone_config(cfg, prefix)
    record = BackboneRecord(config, tensors_sha256(tensors), prefix, mean=MEAN, std=STD)
    torch.save(dict(state_dict=state, meta=dict(backbone=record.dumps())), checkpoint)

    size = cfg.test_pipeline[-2].crop_size
    pixels = np.array(Image.open(image).resize((size, size), Image.Resampling.BICUBIC))
    images = (torch.from_numpy(pixels) - torch.tensor(MEAN)) / torch.tensor(STD)
    backbone.train(False)
    with torch.no_grad():
        expected = backbone(images.permute(2, 0, 1)[None])[-1][0]
    network = load_backbone(checkpoint)
    vectors = extract_features(network, [image], img_size=size)
    assert_close(vectors[0], expected.mean(dim=(1, 2)), rtol=0, atol=1e-4)


def test_mmpretrains_own_functions_on_a_classifier(repo, tmp_path):
    """FeatureExtractor and get_model with the path of a config."""
    config = repo / 'configs/quickstart/finetune.py'
    torch.manual_seed(0)
    model = get_model(str(config))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    (found,) = FeatureExtractor(str(config), str(tmp_path / 'a.pth'))(pixels)
    images = (torch.from_numpy(pixels).permute(2, 0, 1)[None] - 79.5) / 91.0
    with torch.no_grad():
        expected = model.extract_feat(images)[-1]
    assert_close(found[-1], expected[0], rtol=0, atol=1e-5)


def test_mmpretrain_extractor_accepts_pretraining(repo, image):
    """It builds the whole CIM and returns features of uncorrupted images."""
    cfg = Config.fromfile(repo / 'configs/quickstart/cim_respix.py')
    cfg.model.update(tokenizer=None, generator=None, grid=(6, 6))
    extract = FeatureExtractor(cfg, pretrained=False)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    found = extract([pixels, pixels[::-1]])
    assert len(found) == 2
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = extract.model.enhancer.backbone((images - 79.5) / 91.0)[-1]
    assert_close(found[0][-1], expected[0], rtol=0, atol=1e-5)
