# Copyright (c) mmcim contributors. All rights reserved.
import math
import random

import pytest
import torch

from mmcim.models.layers import (
    BaseMasking,
    BlockMasking,
    RatioMasking,
    UniformMasking,
)
from mmcim.models.layers.masking import IGNORED

CPU = torch.device('cpu')


def test_uniform_masking_count_is_uniform_over_closed_range():
    torch.manual_seed(0)
    mask = UniformMasking((100, 120))(21_000, (14, 14), CPU)
    assert mask.shape == (21_000, 14, 14) and mask.dtype == torch.bool
    counts = torch.bincount(mask.sum(dim=(1, 2)))
    assert counts[:100].sum() == 0 and len(counts) == 121
    # 1,000 expected for each of 21 counts; 5 sigma of a binomial
    assert (counts[100:] - 1000).abs().max() < 5 * (1000 * 20 / 21) ** 0.5


def test_uniform_masking_masks_each_patch_equally_often():
    torch.manual_seed(0)
    fraction = UniformMasking((100, 120))(20_000, (14, 14), CPU).float().mean(dim=0)
    expected = 110 / 196
    sigma = (expected * (1 - expected) / 20_000) ** 0.5
    assert (fraction - expected).abs().max() < 5 * sigma


@pytest.mark.parametrize('grid', [(8, 8), (24, 24)])
@pytest.mark.parametrize('masking, least, greatest', [
    (UniformMasking((100, 120)), 100, 120),
    (BlockMasking(75), 59, 75),  # less than the least rectangle is missing
])  # fmt: skip
def test_counts_are_fractions_of_the_grid(masking, least, greatest, grid):
    scale = grid[0] * grid[1] / 196
    counts = masking(500, grid, CPU).sum(dim=(1, 2))
    assert counts.min() >= round(least * scale) and counts.max() == round(
        greatest * scale
    )


@pytest.mark.parametrize('ratio, count', [(0.4, 79), (0.5, 98), (0.6, 118), (0.75, 147)])
def test_ratio_masking_count(ratio, count):
    mask = RatioMasking(ratio)(16, (14, 14), CPU)
    assert (mask.sum(dim=(1, 2)) == count).all()
    assert len({tuple(row.tolist()) for row in mask.flatten(1)}) == 16


def test_ratio_masking_count_is_rounded_up():
    """SimMIM: 30 of 7 x 7 squares; 0.6 * 25 is 15.000000000000002."""
    assert RatioMasking(0.6, mask_patch_size=2)(1, (14, 14), CPU).sum() == 4 * 30
    assert RatioMasking(0.6)(1, (5, 5), CPU).sum() == 15


def test_ratio_masking_masks_squares_of_32_px():
    """ConMIM: 37 of 7 x 7 squares, that is 148 of 196 patches."""
    torch.manual_seed(0)
    mask = RatioMasking(0.75, mask_patch_size=2)(4000, (14, 14), CPU)
    assert (mask.sum(dim=(1, 2)) == 148).all()
    squares = mask[:, ::2, ::2]
    for row, column in ((0, 1), (1, 0), (1, 1)):
        assert mask[:, row::2, column::2].equal(squares)
    fraction = squares.float().mean(dim=0)
    sigma = (37 / 49 * 12 / 49 / 4000) ** 0.5
    assert (fraction - 37 / 49).abs().max() < 5 * sigma


def test_block_masking_never_exceeds_its_number():
    torch.manual_seed(0)
    counts = BlockMasking(75)(512, (14, 14), CPU).sum(dim=(1, 2))
    assert counts.max() == 75
    assert counts.float().mean() > 72


def test_block_masking_statistics_match_sequential_algorithm():
    """Compare with algorithm 1 of BEiT, drawn one image at a time."""
    rng = random.Random(0)

    def draw():
        mask = torch.zeros(14, 14, dtype=torch.bool)
        while mask.sum() < 75:
            remaining, grown = 75 - int(mask.sum()), False
            for _ in range(10):
                area = rng.uniform(16, remaining)
                aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
                h = round(math.sqrt(area * aspect))
                w = round(math.sqrt(area / aspect))
                if h >= 14 or w >= 14:
                    continue
                top, left = rng.randint(0, 14 - h), rng.randint(0, 14 - w)
                block = mask[top : top + h, left : left + w]
                if 0 < (~block).sum() <= remaining:
                    block[:] = True
                    grown = True
                    break
            if not grown:
                break
        return mask

    reference = torch.stack([draw() for _ in range(1000)])
    torch.manual_seed(0)
    ours = BlockMasking(75)(4000, (14, 14), CPU)

    def fraction_of_equal_neighbours(mask):  # how blocky the mask is
        return (mask[:, 1:] == mask[:, :-1]).float().mean()

    assert (
        abs(fraction_of_equal_neighbours(ours) - fraction_of_equal_neighbours(reference))
        < 0.005
    )
    counts = [mask.sum(dim=(1, 2)).float().mean() for mask in (ours, reference)]
    assert abs(counts[0] - counts[1]) < 0.3
    corner = [mask[:, 0, 0].float().mean() for mask in (ours, reference)]
    assert abs(corner[0] - corner[1]) < 0.05


@pytest.mark.parametrize(
    ('num_masked', 'grid', 'some_empty'),
    [(75, (14, 14), False), (20, (6, 6), True), (30, (6, 6), True), (60, (9, 20), False)],
)
def test_blocks_match_sequential_algorithm(num_masked, grid, some_empty):
    """From the same random numbers, except for images that BEiT's code leaves empty."""
    batch = 300
    torch.manual_seed(0)
    masking = BlockMasking(num_masked, num_patches=grid[0] * grid[1])
    ours = masking(batch, grid, CPU)
    torch.manual_seed(0)
    numbers = torch.rand(64, 4, batch).permute(2, 0, 1).tolist()

    def draw(proposals):
        rows, columns = grid
        mask, rejected = torch.zeros(grid, dtype=torch.bool), 0
        for u_area, u_aspect, u_top, u_left in proposals:
            remaining = num_masked - int(mask.sum())
            area = 16 + u_area * (remaining - 16)
            aspect = math.exp((2 * u_aspect - 1) * math.log(1 / 0.3))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            rejected += 1
            if h < rows and w < columns:
                top, left = int(u_top * (rows - h + 1)), int(u_left * (columns - w + 1))
                block = mask[top : top + h, left : left + w]
                if 0 < (~block).sum() <= remaining:
                    block[:] = True
                    rejected = 0
            if rejected == 10:
                break
        return mask

    reference = torch.stack([draw(proposals) for proposals in numbers])
    empty = ~reference.flatten(1).any(dim=1)
    assert empty.any() == some_empty
    assert ours[~empty].equal(reference[~empty])
    assert ours.flatten(1).any(dim=1).all()
    assert ours.sum(dim=(1, 2)).max() <= num_masked


@pytest.mark.parametrize('grid', [(2, 2), (2, 9), (4, 4), (6, 6)])
def test_every_image_has_a_masked_patch(grid):
    """Even where rectangles of the least area are larger than the grid."""
    torch.manual_seed(0)
    patches = grid[0] * grid[1]
    for num_masked in {1, 2, patches // 2, patches - 1}:
        for min_block in {1, num_masked}:
            for min_aspect in (0.1, 0.3, 1.0):
                masking = BlockMasking(
                    num_masked, min_block, min_aspect, num_patches=patches
                )
                counts = masking(32, grid, CPU).sum(dim=(1, 2))
                assert counts.min() >= 1 and counts.max() <= num_masked


@pytest.mark.parametrize(
    'masking', [UniformMasking((4, 6), 8), RatioMasking(mask_patch_size=2)]
)
def test_rectangular_grids(masking):
    torch.manual_seed(0)
    mask = masking(2000, (4, 10), CPU)
    assert mask.shape == (2000, 4, 10)
    fraction = mask.float().mean(dim=0)
    counts = mask.sum(dim=(1, 2)).float()
    sigma = 0.5 / 2000**0.5
    assert (fraction - counts.mean() / 40).abs().max() < 5 * sigma


def test_masks_depend_on_seed():
    for masking in (UniformMasking(), RatioMasking(), BlockMasking()):
        drawn = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn.append(masking(4, (14, 14), CPU))
        assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])


@pytest.mark.parametrize(
    ('build', 'word'),
    [
        (lambda: UniformMasking((0, 10))(1, (14, 14), CPU), r'num_masked=\(0, 10\)'),
        (lambda: UniformMasking((120, 100))(1, (14, 14), CPU), 'masks 120 to 100'),
        (lambda: UniformMasking((100, 196))(1, (14, 14), CPU), 'of 14 x 14'),
        (lambda: RatioMasking(1.0)(1, (4, 4), CPU), 'ratio=1.0'),
        (lambda: RatioMasking(0.99)(1, (4, 4), CPU), '16 to 16 of 4 x 4'),
        (lambda: RatioMasking(0.5, mask_patch_size=2)(1, (4, 5), CPU), r'\(4, 5\)'),
        (lambda: UniformMasking((1, 2))(1, (4, 4), CPU), '0 to 0 of 4 x 4'),
        (lambda: BlockMasking(10, min_block=16), 'min_block'),
        (lambda: BlockMasking(75, num_patches=64)(1, (8, 8), CPU), '8 x 8'),
        (lambda: BlockMasking(16)(1, (2, 2), CPU), '0 to 0 of 2 x 2'),
    ],
)
def test_impossible_masks_raise(build, word):
    with pytest.raises(ValueError, match=word):
        build()


def test_every_count_of_small_range_occurs():
    counts = UniformMasking((1, 3), num_patches=4)(200, (2, 2), CPU).sum(dim=(1, 2))
    assert set(counts.tolist()) == {1, 2, 3}


@pytest.mark.parametrize('masking', [
    UniformMasking((100, 120)), RatioMasking(0.6, mask_patch_size=2), BlockMasking(75),
])  # fmt: skip
@pytest.mark.parametrize('grid', [(14, 14), (6, 8)])
def test_masked_patches_are_all_masked_ones_in_order(masking, grid):
    torch.manual_seed(0)
    mask = masking(64, grid, CPU)
    index, valid = masking.patches(mask)
    assert index.shape == valid.shape == (64, masking.capacity(grid))
    for image in range(64):
        expected = mask[image].flatten().nonzero().flatten()
        assert index[image][valid[image]].equal(expected)
        assert len(set(index[image].tolist())) == len(index[image])


def test_a_strategy_of_unknown_number_gives_all_patches():
    class Half(BaseMasking):
        def __call__(self, batch_size, grid, device):
            return torch.rand(batch_size, *grid, device=device) < 0.5

    index, valid = Half().patches(torch.tensor([[[True, False], [False, True]]]))
    assert index.tolist() == [[0, 3, 1, 2]]
    assert valid.tolist() == [[True, True, False, False]]


def test_masked_patches_gather_and_replace_like_a_boolean_mask():
    torch.manual_seed(0)
    masking = UniformMasking((4, 9), num_patches=12)
    mask = masking(8, (3, 4), CPU)
    patches = masking.patches(mask)
    tokens, ids = torch.randn(8, 12, 5), torch.randint(100, (8, 3, 4))
    samples = torch.randint(100, 200, patches.positions.shape)

    picked, targets = patches.gather(tokens), patches.targets(ids)
    assert picked.shape == (8, 9, 5)
    assert picked[patches.valid].equal(tokens[mask.flatten(1)])
    assert targets[patches.valid].equal(ids[mask])
    assert (targets[~patches.valid] == IGNORED).all()
    expected = ids.masked_scatter(mask, samples[patches.valid])
    assert patches.replace(ids, samples).equal(expected)
