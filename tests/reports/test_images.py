# Copyright (c) mmcim contributors. All rights reserved.
import base64
import io

import numpy as np
import pytest
from PIL import Image

from mmcim.reports.images import IMAGES, read_galleries
from mmcim.reports.runs import read_run

from .written_runs import photo, write_image

ROOM = 3_000_000


@pytest.fixture
def run(tmp_path):
    """A run with small images of which the first channel is the step."""

    def write(*steps, name='panels'):
        for step in steps:
            image = np.full((20, 30, 3), (step, 200, 200), np.uint8)
            write_image(tmp_path, f'{name}_{step}', image)
        return tmp_path

    return write


def decode(uri):
    start, _, text = uri.partition('base64,')
    assert start == 'data:image/webp;'
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_images_are_those_of_the_run(run):
    (gallery,) = read_galleries([read_run('a', run(3, 100, 20))], ROOM)
    assert (gallery.name, gallery.run) == ('panels', 'a')
    assert [step for step, _ in gallery.images] == [3, 20, 100]
    for step, uri in gallery.images:
        image = np.asarray(decode(uri))
        assert image.shape == (20, 30, 3)
        assert np.abs(image[10, 10].astype(int) - (step, 200, 200)).max() < 8


def test_images_of_one_name_are_beside_each_other(run):
    folder = run(1)
    run(1, name='a_panels')
    runs = [read_run('x', folder), read_run('y', folder)]
    found = [(gallery.name, gallery.run) for gallery in read_galleries(runs, ROOM)]
    assert found == [
        ('a_panels', 'x'),
        ('a_panels', 'y'),
        ('panels', 'x'),
        ('panels', 'y'),
    ]


def test_of_many_images_first_last_and_even_steps_remain(run):
    (gallery,) = read_galleries([read_run('a', run(*range(1, 101)))], ROOM)
    steps = [step for step, _ in gallery.images]
    assert len(steps) == IMAGES and gallery.total == 100 and gallery.damaged == 0
    assert (steps[0], steps[-1]) == (1, 100)
    assert set(np.diff(steps)) == {2, 3}


def test_damaged_images_are_counted(run):
    folder = run(1, 2)
    path = write_image(folder, 'panels_3', photo(0))
    path.write_bytes(path.read_bytes()[:5000])
    write_image(folder, 'panels_4', photo(0)).write_text('no image')
    (gallery,) = read_galleries([read_run('a', folder)], ROOM)
    assert [step for step, _ in gallery.images] == [1, 2]
    assert gallery.damaged == 2 and gallery.total == 4


def test_large_images_shrink_until_there_is_room(tmp_path):
    for step in range(4):
        write_image(tmp_path, f'panels_{step}', photo(step))
    run = read_run('a', tmp_path)
    (gallery,) = read_galleries([run], 200_000)
    assert 120_000 < sum(len(uri) for _, uri in gallery.images) <= 201_000
    width, height = decode(gallery.images[0][1]).size
    assert width / height == pytest.approx(9 / 7, rel=0.02) and width < 900


def test_no_images(tmp_path):
    assert read_galleries([read_run('a', tmp_path)], ROOM) == []
