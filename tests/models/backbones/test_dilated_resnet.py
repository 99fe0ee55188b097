# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmpretrain.registry import MODELS

mmseg = pytest.importorskip('mmseg.models.backbones')

DILATED = dict(
    depth=50,
    stem_channels=8,
    base_channels=8,
    strides=(1, 2, 1, 1),
    dilations=(1, 1, 2, 4),
    out_indices=(2, 3),
)


@pytest.mark.parametrize('contract', [True, False])
def test_features_match_mmsegmentation(contract):
    torch.manual_seed(0)
    config = dict(DILATED, contract_dilation=contract)
    ours = MODELS.build(dict(config, type='DilatedResNet'))
    theirs = mmseg.ResNet(**config, norm_cfg=dict(type='BN'))
    theirs.load_state_dict(ours.state_dict())
    for net in (ours, theirs):
        net.eval()  # which returns None
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for found, expected in zip(ours(images), theirs(images)):
            torch.testing.assert_close(found, expected)
            assert found.shape[2:] == (8, 12)
