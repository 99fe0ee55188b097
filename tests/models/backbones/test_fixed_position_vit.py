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


@pytest.mark.parametrize('grid', [(2, 2), (5, 3)])
def test_positions_of_other_sizes_are_sampled_by_scale_factors(grid):
    """Of embeddings that are linear in the place, within the image's patches."""

    def cubic(place):  # torch's kernel: it does not quite keep a linear function
        found = 0.0
        for cell in range(math.floor(place) - 1, math.floor(place) + 3):
            x = abs(place - cell)
            near = (1.25 * x - 2.25) * x**2 + 1
            found += cell * (near if x < 1 else -0.75 * (((x - 5) * x + 8) * x - 4))
        return found

    net = FixedPositionViT(**SMALL | dict(img_size=8 * 12))
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing='ij')
    net.pos_embed.data[0, 1:, 0] = rows.flatten()
    net.pos_embed.data[0, 1:, 1] = columns.flatten()
    table = net._positions(grid)[0, 1:, :2].unflatten(0, grid)
    for i in range(grid[0]):
        for j in range(grid[1]):
            place = [(x + 0.5) * 12 / (n + 0.1) - 0.5 for x, n in zip((i, j), grid)]
            if max(place) < 9 and min(place) > 1:
                expected = [cubic(x) for x in place]
                assert table[i, j].tolist() == pytest.approx(expected, abs=1e-4)
    # The features are those of these positions.
    init_weights(net)
    images = torch.randn(1, 3, 8 * grid[0], 8 * grid[1])
    same = FixedPositionViT(**SMALL | dict(img_size=(8 * grid[0], 8 * grid[1])))
    same.load_state_dict(net.state_dict() | dict(pos_embed=net._positions(grid)))
    for part in (net, same):
        part.eval()  # which returns None
    assert net(images)[0].equal(same(images)[0])


@pytest.mark.parametrize('pretrained', [False, True])
def test_only_position_embedding_is_frozen(pretrained, tmp_path):
    torch.save(FixedPositionViT(**SMALL).state_dict(), tmp_path / 'x.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
    net = FixedPositionViT(**SMALL, init_cfg=init if pretrained else None)
    init_weights(net)
    frozen = [name for name, param in net.named_parameters() if not param.requires_grad]
    assert frozen == ['pos_embed']
