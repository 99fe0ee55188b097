# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmpretrain.registry import MODELS

from mmcim.models.data_preprocessors import DevicePreprocessor

KINDS = ['CIM', 'ConMIM', 'CorrIM', 'TwoCrops']


def test_images_are_flipped_and_normalized():
    torch.manual_seed(0)
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    preprocessor = DevicePreprocessor(to_rgb=True, flip_prob=1.0)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    expected = (images.flip(1) - mean) / std
    for training in (False, True):
        inputs = preprocessor(dict(inputs=images), training)['inputs']
        assert list(inputs) == ['images']
        target = expected.flip(-1) if training else expected
        torch.testing.assert_close(inputs['images'], target)
        assert inputs.shape == (4, 3, 32, 32)


@pytest.mark.parametrize('kind', KINDS)
def test_all_preprocessors_extend_base(kind):
    preprocessor = MODELS.build(dict(type=f'{kind}DataPreprocessor', flip_prob=0.25))
    assert isinstance(preprocessor, DevicePreprocessor)
    assert preprocessor.flip_prob == 0.25
    images = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    data = preprocessor(dict(inputs=images, data_samples=[0, 1]), training=False)
    assert data['inputs']['images'].shape == (2, 3, 64, 64)
    assert data['data_samples'] == [0, 1]


def test_two_crops_raise():
    crops = [torch.zeros(2, 3, 8, 8, dtype=torch.uint8)] * 2
    with pytest.raises(TypeError, match='must be uint8, .* not list of shape'):
        DevicePreprocessor()(dict(inputs=crops), training=True)
