# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch

from mmcim.models.backbones import FixedPositionViT

from ...conftest import init_weights

SMALL = dict(
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
    img_size=24,
    patch_size=8,
)


def test_position_embedding_is_sin_cos():
    """Of sines and cosines of both coordinates, each at four wavelengths."""
    net = FixedPositionViT(**SMALL)
    init_weights(net)
    (class_token, *patches) = net.pos_embed[0].tolist()
    assert class_token == [0.0] * 16
    rates = [10000 ** (-i / 4) for i in range(4)]
    for number, found in enumerate(patches):
        row, column = divmod(number, 3)
        waves = [
            f(x * r) for x in (row, column) for f in (math.sin, math.cos) for r in rates
        ]
        assert found == pytest.approx(waves, abs=1e-6)


@pytest.mark.parametrize('pretrained', [False, True])
def test_only_position_embedding_is_frozen(pretrained, tmp_path):
    torch.save(FixedPositionViT(**SMALL).state_dict(), tmp_path / 'x.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
    net = FixedPositionViT(**SMALL, init_cfg=init if pretrained else None)
    init_weights(net)
    frozen = [name for name, param in net.named_parameters() if not param.requires_grad]
    assert frozen == ['pos_embed']
