# Copyright (c) mmcim contributors. All rights reserved.
import re

import numpy as np
import pytest
from PIL import Image

from mmcim.datasets import check_images
from mmcim.utils import ConfigError


@pytest.fixture
def folder(tmp_path):
    """Fill a folder: number of images of each class."""

    def make(**classes):
        random = np.random.default_rng(0)
        for name, number in classes.items():
            (tmp_path / name).mkdir()
            for i in range(number):
                pixels = random.integers(0, 256, (8, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / f'{i}.png')
        return tmp_path

    return make


def test_what_is_in_a_folder(folder):
    listing = check_images(folder(a=40, b=40))
    assert str(listing) == '80 images in 2 classes'


def test_one_class_is_none(folder):
    with pytest.raises(ConfigError, match='Expected two classes or more'):
        check_images(folder(one=1))


def test_classes_that_are_too_small(folder):
    with pytest.raises(ConfigError, match='2 of 3 class folders have too few') as error:
        check_images(folder(a=40, b=15, c=0))
    text = str(error.value)
    # 15 in the two subsets; the class that has enough is not named.
    train, val = re.search(r'b: (\d+) for training, (\d+) for', text).groups()
    assert int(train) + int(val) == 15
    assert '\n  c: 0 for training, 0 for validation\n' in text
    assert '\n  a: ' not in text
    assert 'each with 20 for training and 1 for validation' in text


def test_unreadable_images_are_named(folder):
    path = folder(a=40, b=40)
    (path / 'a/empty.jpg').touch()
    whole = (path / 'b/3.png').read_bytes()
    (path / 'b/3.png').write_bytes(whole[:20])
    with pytest.raises(ConfigError, match='2 images are unreadable') as error:
        check_images(path)
    assert f"\n  Cannot read the image '{path}/a/empty.jpg': it is empty" in str(
        error.value
    )
    assert f"\n  Cannot read the image '{path}/b/3.png': it is trunc" in str(error.value)
