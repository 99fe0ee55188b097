# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
import torch
from PIL import Image

from mmcim.visualization import draw_panels, draw_points, save_image

RED = (1.0, 0.0, 0.0)


def is_colour(image, colour, tolerance=3):
    """Which pixels of (H, W, 3), uint8, have a colour, up to rounding."""
    return (np.abs(image.astype(int) - colour) <= tolerance).all(axis=2)


def test_panels_are_columns_and_images_are_rows():
    panels = {'black': torch.zeros(3, 3, 8, 8), 'red': torch.zeros(3, 3, 8, 8)}
    panels['red'][:, 0] = 1
    panels['red'][1, 1] = 1  # the second is yellow
    image = draw_panels(panels, min_side=16)
    red, yellow = is_colour(image, (255, 0, 0)), is_colour(image, (255, 255, 0))
    # Enlarged to 16 x 16 pixels.
    assert red.sum() == 2 * 16 * 16 and yellow.sum() == 16 * 16
    rows, columns = np.nonzero(yellow)
    assert np.ptp(rows) == np.ptp(columns) == 15
    above, below = red[: rows[0]], red[rows[-1] :]
    assert above.sum() == below.sum() == 16 * 16
    assert np.nonzero(red)[1].min() == columns.min() == 4 + 16 + 4


def test_whole_factor_keeps_pixels_apart():
    panels = {'x': (torch.arange(16) % 2).view(1, 1, 4, 4).expand(1, 3, 4, 4).float()}
    image = draw_panels(panels, min_side=10)
    rows, columns = np.nonzero(is_colour(image, (0, 0, 0)))
    assert len(rows) >= 8 * 9  # 8 pixels, three times as large
    assert columns.min() == 4 and columns.max() == 4 + 9 - 1


def test_large_images_are_reduced():
    shapes = [
        draw_panels({'x': torch.zeros(2, 3, 300, 600)}, max_side=side).shape[:2]
        for side in (300, 100)
    ]
    (tall, wide), (low, narrow) = shapes
    assert tall - low == 2 * 200 and wide - narrow == 608 - 480


def test_title_legend_and_rows_take_their_places():
    panels = {'x': torch.zeros(2, 3, 96, 96)}
    plain = draw_panels(panels)
    image = draw_panels(panels, 'a title', dict(replaced=RED), rows=['one', 'two'])
    assert image.shape[0] == plain.shape[0] + 16 + 2 * 16
    assert image.shape[1] == plain.shape[1] + 8 * 3
    top, bottom = image[:16], image[-32:]
    assert (top < 128).any() and is_colour(bottom, (255, 0, 0)).any()
    assert not (plain[:16] < 128).any()
    left = image[48:-32, : 8 * 3]
    assert (left < 128).any()


def test_lines_of_a_heading_stand_above_their_own_column():
    panels = dict.fromkeys(['a', 'b\nfirst\nsecond'], torch.zeros(1, 3, 96, 96))
    image = draw_panels(panels)
    lines = image[16:48] < 128
    assert not lines[:, :104].any() and lines[:, 104:204].any()


def test_values_outside_of_the_range_are_clipped():
    image = draw_panels({'x': torch.full((1, 3, 96, 96), 7.0)})
    assert (image[70:100, 20:80] == 255).all()


def test_saved_image_is_what_was_drawn(tmp_path):
    image = draw_panels({'x': torch.rand(1, 3, 8, 8)})
    path = tmp_path / 'new' / 'grid.png'
    save_image(image, path)
    assert (np.asarray(Image.open(path)) == image).all()
    assert [file.name for file in path.parent.iterdir()] == ['grid.png']


def test_failed_write_leaves_no_file(tmp_path):
    with pytest.raises(KeyError, match='.unknown'):
        save_image(np.zeros((2, 2, 3), np.uint8), tmp_path / 'grid.unknown')
    assert list(tmp_path.iterdir()) == []


def test_long_title_has_room():
    panels = {'x': torch.zeros(1, 3, 96, 96)}
    title = 'principal components, work_dirs/cim_respix/iter_400_backbone.safetensors'
    image = draw_panels(panels, title)
    written = np.nonzero((image[:16] < 128).any(axis=(0, 2)))[0]
    assert 480 < written.max() < image.shape[1] - 8
    assert draw_panels(panels, 'short').shape[1] == 480


def test_captions_are_below_their_images():
    panels = dict.fromkeys(['a', 'b'], torch.zeros(2, 3, 96, 96))
    captions = {'b': ['first\n0.5', 'x' * 99]}
    image = draw_panels(panels, captions=captions)
    assert image.shape[0] == 32 + 2 * (100 + 32)
    for row in range(2):
        below = image[32 + 132 * row + 100 :][:32] < 128
        assert not below[:, :104].any() and below[:, 104:204].any()
        assert not below[:, 204:].any()
    first, second = image[132:164, 104:204], image[264:, 104:204]
    lines = [(part < 128).any(axis=(1, 2)) for part in (first, second)]
    assert lines[0][16:].any() and not lines[1][16:].any()


def test_points_have_the_colours_of_their_groups():
    points = np.array([[0.0, 0], [0, 9], [9, 9], [9, 0]])
    image = draw_points(points, ['b', 'a', 'a', 'b'], 'four points')
    # The first two colours of tab10, at 80 % on white.
    blue, orange = is_colour(image, (76, 146, 195)), is_colour(image, (255, 153, 62))
    plot, legend = slice(0, 880), image[:80, 880:]
    assert is_colour(legend, (76, 146, 195)).any()
    top, bottom = (np.nonzero(part[:, plot])[0].mean() for part in (blue, orange))
    assert top < 200 and bottom > 600
    columns = np.nonzero(blue[:, plot])[1]
    assert np.ptp(columns) > 400


def test_points_of_one_group_have_no_legend():
    image = draw_points(np.eye(2), ['a', 'a'], 'two points')
    with_legend = draw_points(np.eye(2), ['a', 'b'], 'two points')
    frame = [
        (part[400] < 128).all(axis=-1).nonzero()[0].max() for part in (image, with_legend)
    ]
    assert frame[0] > frame[1]


def test_many_groups_have_colours_of_their_own():
    image = draw_points(
        np.random.default_rng(0).random((40, 2)), list(map(str, range(40))), ''
    )
    colours = {tuple(colour) for colour in image.reshape(-1, 3)[::7]}
    assert len(colours) > 40
