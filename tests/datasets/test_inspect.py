# Copyright (c) mmcim contributors. All rights reserved.
"""A look at image folders and data sets before a run."""

import logging
import re

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from PIL import Image

from mmcim.datasets import check_images, inspect_dataset, measure_normalization
from mmcim.utils import ConfigError


class Listed(BaseDataset):
    """Gives the samples that it gets, and counts how often."""

    def __init__(self, samples, classes=('cat', 'dog', 'cow')):
        self.samples = samples
        super().__init__(metainfo=dict(classes=classes), serialize_data=False)

    def load_data_list(self):
        return self.samples


@pytest.fixture
def images(tmp_path):
    """Forty images of 30 x 20 px."""
    paths = [str(tmp_path / f'{i}.png') for i in range(40)]
    for path in paths:
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    return paths


@pytest.fixture
def warnings(monkeypatch):
    texts = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'handlers', [logging.NullHandler()])
    monkeypatch.setattr(logger, 'warning', lambda text, *args: texts.append(text))
    return texts


def mask(values, mode='L', shape=(20, 30)):
    """An image with some values."""
    array = np.zeros(shape, np.uint8)
    array.flat[: len(values)] = values
    return Image.fromarray(array).convert(mode)


MASKS = dict(
    fitting=(mask([0, 1, 2, 255]), {}, None),
    palette=(mask([0, 1, 2], 'P'), {}, None),
    void=(mask([0, 1, 2, 11]), {}, None),
    zero_is_ignored=(mask([0, 1, 2, 3]), dict(reduce_zero_label=True), None),
    mapped=(mask([0, 7]), dict(label_map={0: 1, 7: 2}), None),
    binary=(mask([0, 255]), {}, r'values \[255\], but there are 3 classes'),
    unknown=(mask([0, 1, 3]), {}, r'values \[3\], but there are 3 classes'),
    colours=(mask([0, 1, 2], 'RGB'), {}, r'is of shape \(20, 30, 3\), its image'),
    size=(
        mask([0, 1], shape=(10, 30)),
        {},
        r'shape \(10, 30\), its image \(20, 30\)',
    ),
    missing=(None, {}, 'cannot read the mask .*mask.png'),
)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('name', MASKS)
def test_masks_fit_images_and_classes(images, tmp_path, name, training):
    image, info, message = MASKS[name]
    path = tmp_path / 'mask.png'
    if image is not None:
        image.save(path)
    info = dict(seg_map_path=str(path), **info)
    data = Listed([dict(img_path=path, **info) for path in images])
    if message is None:
        inspect_dataset(data, training, None, ignored=[11])
    else:
        with pytest.raises(ConfigError, match=message):
            inspect_dataset(data, training, None, ignored=[11])


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='LoadImage'),  # alone: the masks are not used
        dict(type='LoadImage', backend_args=dict(backend='local')),
        dict(type='LoadNumpyImage'),
    ],
)
def test_what_is_read_in_another_way_is_not_looked_at(images, tmp_path, transform):
    data = Listed([dict(img_path=p, seg_map_path='mask.npy') for p in images])
    kind = type(transform.pop('type'), (), transform)
    data.pipeline.transforms = [kind()]
    inspect_dataset(data, False, None)


def test_labels_are_those_of_classes(images, warnings):
    samples = [dict(img_path=p, gt_label=i % 3) for i, p in enumerate(images)]
    inspect_dataset(Listed(samples), True, None)
    assert not warnings
    inspect_dataset(Listed(samples, ('cat', 'dog', 'cow', 'bat')), True, None)
    assert warnings == ['1 of 4 classes have no image: bat']
    samples[17]['gt_label'] = 3
    with pytest.raises(ConfigError, match='labels are 0 to 3, but there are 3 classes'):
        inspect_dataset(Listed(samples), True, None)


def test_small_images_warn(images, warnings):
    samples = [dict(img_path=path) for path in images]
    inspect_dataset(Listed(samples), True, [40, 40])
    assert not warnings
    inspect_dataset(Listed(samples), True, [64, 64])
    (text,) = warnings
    assert 'small for [64, 64]' in text and 'height 20 and width 30' in text


BROKEN = dict(
    missing=None, empty=b'', truncated=b'\x89PNG\r\n\x1a\n' + bytes(40), text=b'no image'
)  # fmt: skip


@pytest.mark.parametrize('kind', BROKEN)
def test_broken_image_is_refused_in_evaluation(images, tmp_path, kind):
    """The sample, in which it is not, has 16 images."""
    path = tmp_path / '1.png'
    path.unlink()
    if BROKEN[kind] is not None:
        path.write_bytes(BROKEN[kind])
    data = Listed([dict(img_path=path) for path in images])
    inspect_dataset(data, True, None)
    with pytest.raises(ConfigError, match=r'1 of 40 .*Cannot read the image .*/1\.png'):
        inspect_dataset(data, False, None)


def test_whole_files_of_any_format_pass(tmp_path):
    paths = [tmp_path / f'image.{end}' for end in ('jpg', 'png', 'bmp', 'webp', 'tif')]
    for path in paths:
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    inspect_dataset(Listed([dict(img_path=str(path)) for path in paths]), False, None)


def test_no_samples_are_refused_and_other_data_pass():
    inspect_dataset([1, 2], False, None)
    with pytest.raises(ConfigError, match='no samples'):
        inspect_dataset(Listed([]), True, None)


# ------------------------------------------------------------------------------------
# Image folders


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
    assert '; c: 0 for training, 0 for validation)' in text
    assert ' a: ' not in text
    assert 'each with 20 for training and 1 for validation' in text


def test_unreadable_images_are_named(folder):
    path = folder(a=40, b=40)
    (path / 'a/empty.jpg').touch()
    whole = (path / 'b/3.png').read_bytes()
    (path / 'b/3.png').write_bytes(whole[:20])
    with pytest.raises(ConfigError, match='2 of 81 images are unreadable: ') as error:
        check_images(path)
    assert f": Cannot read the image '{path}/a/empty.jpg': it is empty" in str(
        error.value
    )
    assert f"; Cannot read the image '{path}/b/3.png': it is trunc" in str(error.value)


# ------------------------------------------------------------------------------------
# Mean and std


@pytest.fixture
def all_kinds(tmp_path):
    """Images of 12 x 12 px in colour, grey and 16 bits, and a wide one; and their pixels.

    The wide one has 12 columns on each side, which are cropped.
    """
    random = np.random.default_rng(0)
    rgb, grey = (random.integers(0, 256, (12, 12, *c)) for c in ([3], []))
    middle = random.integers(0, 256, (12, 12, 3))
    wide = np.pad(middle, ((0, 0), (12, 12), (0, 0)))
    for name, array in dict(rgb=rgb, grey=grey, wide=wide).items():
        Image.fromarray(array.astype(np.uint8)).save(tmp_path / f'{name}.png')
    deep = random.integers(0, 2**16, (12, 12))
    Image.fromarray(deep.astype(np.uint16)).save(tmp_path / 'deep.tif')
    pixels = [rgb, np.dstack([grey] * 3), middle, np.dstack([deep // 256] * 3)]
    return [tmp_path / f for f in ('rgb.png', 'grey.png', 'wide.png', 'deep.tif')], pixels


def test_mean_and_std_of_all_pixels(all_kinds):
    files, pixels = all_kinds
    found = measure_normalization(files, img_size=12)
    stacked = np.stack(pixels).reshape(-1, 3)
    for values, expected in zip(found, (stacked.mean(axis=0), stacked.std(axis=0))):
        assert [type(value) for value in values] == [float] * 3
        np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert measure_normalization(map(str, files[::-1]), (12, 12)) == found
    for file, image in zip(files, pixels):
        mean, std = measure_normalization([file], img_size=12)
        np.testing.assert_allclose(mean, image.mean(axis=(0, 1)), rtol=1e-12)
        np.testing.assert_allclose(std, image.std(axis=(0, 1)), rtol=1e-12)


def test_evenly_spaced_images_are_measured(tmp_path):
    for i in range(9):
        Image.new('RGB', (6, 8), (i, 10 * i, 255)).save(tmp_path / f'{i}.png')
    files = sorted(tmp_path.iterdir(), reverse=True)
    mean, std = measure_normalization(files, 4, max_images=3)  # 0, 4 and 8
    np.testing.assert_allclose(mean, [4, 40, 255])
    deviation = np.std([0, 4, 8])
    np.testing.assert_allclose(std, [deviation, 10 * deviation, 1])  # 1: constant
    assert measure_normalization(files, 4)[0] == [4, 40, 255]


def test_unreadable_image_cannot_be_measured(all_kinds, tmp_path):
    (tmp_path / 'broken.png').write_bytes(b'no image')
    with pytest.raises(ConfigError, match='Cannot read the image .*/broken.png'):
        measure_normalization([*all_kinds[0], tmp_path / 'broken.png'], 12)
