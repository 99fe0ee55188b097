# Copyright (c) mmcim contributors. All rights reserved.
import io
import logging

import cv2
import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmengine.logging.logger import FilterDuplicateWarning
from mmpretrain.datasets import CustomDataset
from PIL import Image

from mmcim.datasets import LoadImage

GREY = (np.indices((64, 48)).sum(0) * 2).astype(np.uint8)
RGB = np.stack([GREY, GREY[::-1], np.full_like(GREY, 200)], axis=-1)
RGB_NOISE = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)


def encode(array, kind, mode=None, **kwargs):
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    if mode is not None:
        image = image.convert(mode)
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def load(path, **kwargs):
    return LoadImage(**kwargs)(dict(img_path=str(path)))


@pytest.mark.parametrize('suffix', ['.png', '.webp', '.tif', '.bmp'])
def test_colour_picture(tmp_path, suffix):
    path = tmp_path / f'picture{suffix}'
    kinds = {'.png': 'PNG', '.webp': 'WEBP', '.tif': 'TIFF', '.bmp': 'BMP'}
    path.write_bytes(encode(RGB, kinds[suffix], lossless=True))
    results = load(path)
    assert results['img'].dtype == np.uint8
    np.testing.assert_array_equal(results['img'], RGB[:, :, ::-1])
    assert results['img_shape'] == results['ori_shape'] == (64, 48)


@pytest.mark.parametrize(
    'content, expected, tolerance',
    [
        (encode(GREY, 'PNG'), GREY, 0),
        (encode(GREY, 'JPEG', quality=100), GREY, 2),
        # The upper eight of sixteen bits: a 12-bit scan gets very dark.
        (encode(GREY.astype(np.uint16) * 256 + 7, 'PNG'), GREY, 0),
        (encode(GREY.astype(np.uint16) * 256 + 7, 'TIFF'), GREY, 0),
        (encode(GREY.astype(np.uint16) * 16, 'PNG'), GREY // 16, 0),
    ],
)
def test_grey_picture(tmp_path, content, expected, tolerance):
    path = tmp_path / 'grey'
    path.write_bytes(content)
    img = load(path)['img']
    assert img.shape == (64, 48, 3) and img.dtype == np.uint8
    difference = np.abs(img.astype(int) - expected[:, :, None].astype(int))
    assert difference.max() <= tolerance


def test_sixteen_bit_colour(tmp_path):
    path = tmp_path / 'colour.png'
    cv2.imwrite(str(path), RGB.astype(np.uint16) * 256 + 9)
    np.testing.assert_array_equal(load(path)['img'], RGB)


def test_alpha_is_dropped(tmp_path):
    path = tmp_path / 'alpha.png'
    path.write_bytes(encode(np.dstack([RGB, GREY]), 'PNG'))
    np.testing.assert_array_equal(load(path)['img'], RGB[:, :, ::-1])


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk(tmp_path, kind):
    path = tmp_path / 'cmyk'
    path.write_bytes(encode(RGB, kind, mode='CMYK'))
    difference = load(path)['img'][:, :, ::-1].astype(int) - RGB
    assert np.abs(difference).mean() < 3


BROKEN = {
    'missing': None,
    'empty': b'',
    'text': b'<html>404 Not Found</html>',
    'garbage': bytes(range(256)) * 4,
    'half-jpeg': encode(RGB_NOISE, 'JPEG')[:3000],
    'almost-jpeg': encode(RGB_NOISE, 'JPEG')[:-300],
    'half-png': encode(RGB_NOISE, 'PNG')[:8000],
    'half-webp': encode(RGB_NOISE, 'WEBP')[:1500],
    'half-tiff': encode(RGB_NOISE, 'TIFF')[:9000],
    # Black and white are not known for these.
    'float-tiff': encode(GREY.astype(np.float32) / 255, 'TIFF'),
}


@pytest.mark.parametrize(
    'name, backend',
    [
        (name, backend)
        for name in BROKEN
        for backend in ('cv2', 'pillow')
        if (name, backend) != ('float-tiff', 'pillow')  # Pillow clips the values
    ],
)
def test_broken_picture(tmp_path, name, backend):
    path = tmp_path / f'{name}.jpg'
    if BROKEN[name] is not None:
        path.write_bytes(BROKEN[name])
    with pytest.raises(OSError) as error:
        load(path, imdecode_backend=backend)
    assert str(path) in str(error.value)
    assert 'ignore_empty=True' in str(error.value)
    assert load(path, imdecode_backend=backend, ignore_empty=True) is None


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def test_dataset_takes_another_picture(tmp_path):
    for index in range(3):
        (tmp_path / f'{index}.png').write_bytes(encode(RGB_NOISE, 'PNG'))
    for name in ('half-jpeg', 'garbage'):
        (tmp_path / f'{name}.jpg').write_bytes(BROKEN[name])
    dataset = CustomDataset(
        data_root=str(tmp_path),
        with_label=False,
        pipeline=[dict(type='LoadImage', ignore_empty=True)],
    )
    logger = MMLogger.get_current_instance()
    messages = Messages()
    messages.addFilter(FilterDuplicateWarning())  # as on mmengine's own handlers
    logger.addHandler(messages)
    try:
        for _ in range(3):
            for index in range(len(dataset)):
                assert dataset[index]['img'].shape == (90, 70, 3)
    finally:
        logger.removeHandler(messages)
    # One warning for each broken file, which names it.
    assert len(messages.texts) == 2
    assert all(
        sum(name in text for text in messages.texts) == 1
        for name in ('half-jpeg.jpg', 'garbage.jpg')
    )


def test_own_folder(tmp_path):
    """mmpretrain's dataset reads a person's folder as it is."""
    names = ['a.JPEG', 'sub/b.png', 'sub/deep/ä 図.TIFF', 'c.webp', 'd.tif', 'e.JPG']
    for name in [*names, 'notes.txt', '.hidden.jpg']:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {'.png': 'PNG', '.webp': 'WEBP'}.get(path.suffix.lower(), 'JPEG')
        kind = 'TIFF' if path.suffix.lower().startswith('.tif') else kind
        path.write_bytes(encode(RGB, kind))
    dataset = CustomDataset(
        data_root=str(tmp_path),
        with_label=False,
        extensions=['.jpg', '.jpeg', '.png', '.webp', '.tif', '.tiff'],
        pipeline=[dict(type='LoadImage')],
    )
    paths = [dataset[index]['img_path'] for index in range(len(dataset))]
    assert sorted(paths) == sorted(str(tmp_path / name) for name in names)
