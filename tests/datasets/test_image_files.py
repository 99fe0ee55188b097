# Copyright (c) mmcim contributors. All rights reserved.
"""Listing folders, and reading image files of all formats."""

import io
import logging
import os
from collections import Counter

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from PIL import Image
from torch import nn

from mmcim.apis import extract_features
from mmcim.datasets import ImageFolder, list_images, read_image
from mmcim.engine import StrictRunner
from mmcim.engine.seeding import fixed_batch
from mmcim.utils import ConfigError

HEIGHT, WIDTH = 6, 4
GREY = np.arange(24, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 10
RGB = np.stack([GREY, GREY[::-1], np.full_like(GREY, 200)], axis=-1)
ALPHA = np.where(GREY < 100, 0, 128).astype(np.uint8)
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]], np.uint8)
INDEX = GREY % 3


def encode(pixels, kind, mode=None, palette=None, **options):
    """Encode with Pillow, an independent encoder."""
    data = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode is not None:
        image = image.convert(mode)
    if palette is not None:
        image.putpalette(palette.tobytes())
    image.save(data, kind, **options)
    return data.getvalue()


def encode_cv2(pixels, extension):
    return cv2.imencode(extension, pixels)[1].tobytes()


def stored_rotated(kind, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(RGB, kind, exif=exif, **options)


GREY16 = GREY.astype(np.uint16) * 256 + 255
RGB16 = RGB.astype(np.uint16) * 256 + 9
# Content and expected RGB or grey values.
EXACT = {
    'png': (encode(RGB, 'PNG'), RGB),
    'bmp': (encode(RGB, 'BMP'), RGB),
    'tiff': (encode(RGB, 'TIFF'), RGB),
    'webp': (encode(RGB, 'WEBP', lossless=True), RGB),
    'ppm': (encode(RGB, 'PPM'), RGB),
    'grey png': (encode(GREY, 'PNG'), GREY),
    'grey tiff': (encode(GREY, 'TIFF'), GREY),
    'grey pgm': (encode(GREY, 'PPM'), GREY),
    'black and white': (encode(GREY > 99, 'PNG'), np.where(GREY > 99, 255, 0)),
    'palette': (encode(INDEX, 'PNG', palette=PALETTE), PALETTE[INDEX]),
    'palette with a transparent entry': (
        encode(INDEX, 'PNG', palette=PALETTE, transparency=1),
        PALETTE[INDEX],
    ),
    'palette with alpha': (
        encode(INDEX, 'PNG', palette=PALETTE, transparency=bytes([0, 99, 255])),
        PALETTE[INDEX],
    ),
    'palette tiff': (encode(INDEX, 'TIFF', palette=PALETTE), PALETTE[INDEX]),
    'alpha png': (encode(np.dstack([RGB, ALPHA]), 'PNG'), RGB),
    'alpha webp': (
        encode(np.dstack([RGB, ALPHA]), 'WEBP', lossless=True, exact=True),
        RGB,
    ),
    'grey with alpha': (encode(np.dstack([GREY, ALPHA]), 'PNG'), GREY),
    '16-bit grey png': (encode(GREY16, 'PNG'), GREY),
    '16-bit grey tiff': (encode(GREY16, 'TIFF'), GREY),
    '16-bit png': (encode_cv2(RGB16[:, :, ::-1], '.png'), RGB),
    '16-bit alpha png': (
        encode_cv2(np.dstack([RGB16[:, :, ::-1], GREY16]), '.png'),
        RGB,
    ),
    '16-bit tiff': (encode_cv2(RGB16[:, :, ::-1], '.tiff'), RGB),
    '12-bit scan': (encode(GREY.astype(np.uint16) * 16, 'PNG'), GREY // 16),
    'cmyk tiff': (encode(RGB, 'TIFF', mode='CMYK'), RGB),
    # Orientation 6: rotate clockwise, that is transpose and flip.
    'rotated png': (stored_rotated('PNG', 6), RGB.transpose(1, 0, 2)[:, ::-1]),
    'rotated tiff': (stored_rotated('TIFF', 8), RGB.transpose(1, 0, 2)[::-1]),
    'rotated webp': (stored_rotated('WEBP', 3, lossless=True), RGB[::-1, ::-1]),
}
JPEG = dict(quality=100, subsampling=0)
SMOOTH = np.indices((32, 48)).transpose(1, 2, 0) @ [[4, 0, 2], [0, 5, 2]]
SMOOTH = SMOOTH.astype(np.uint8)


def expected_bgr(values):
    values = np.asarray(values, np.uint8)
    return values[:, :, ::-1] if values.ndim == 3 else np.dstack([values] * 3)


@pytest.fixture
def decode(tmp_path):
    """Read a file of the given content."""

    def read(content):
        (tmp_path / 'content').write_bytes(content)
        return read_image(tmp_path / 'content')

    return read


@pytest.mark.parametrize('kind', EXACT)
def test_lossless_formats_are_read_exactly(kind, decode):
    content, values = EXACT[kind]
    image = decode(content)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected_bgr(values))


@pytest.mark.parametrize('kind', EXACT)
def test_pixels_match_mmcv(kind, decode):
    """Segmentation uses mmcv's LoadImageFromFile."""
    content, _ = EXACT[kind]
    difference = decode(content).astype(int) - mmcv.imfrombytes(content)
    assert np.abs(difference).max() <= (kind == '16-bit tiff')  # mmcv rounds these


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (dict(), SMOOTH),
        (dict(mode='L'), SMOOTH @ [0.299, 0.587, 0.114]),
        (dict(mode='CMYK'), SMOOTH),
        (dict(orientation=6), SMOOTH.transpose(1, 0, 2)[:, ::-1]),
        (dict(orientation=2), SMOOTH[:, ::-1]),
    ],
)
def test_jpeg_matches_mmcv(options, expected, decode):
    exif = Image.Exif()
    exif[0x0112] = options.pop('orientation', 1)
    content = encode(SMOOTH, 'JPEG', exif=exif, **JPEG, **options)
    difference = decode(content) - expected_bgr(expected).astype(int)
    assert np.abs(difference).max() <= 3


def test_tiff_alpha_is_composited_on_black(decode):
    image = decode(encode(np.dstack([RGB, ALPHA]), 'TIFF'))
    difference = image - expected_bgr(RGB * (ALPHA[:, :, None] / 255)).astype(float)
    assert np.abs(difference).max() <= 1


NOISE = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)
DAMAGED = 'truncated, damaged, of an unknown format'
OTHER = 'not of 8 or 16 bits unsigned'
REFUSED = {
    'empty': (b'', 'it is empty or missing'),
    'text': (b'<html>404 Not Found</html>', DAMAGED),
    'garbage': (bytes(range(256)) * 4, DAMAGED),
    'half jpeg': (encode(NOISE, 'JPEG')[:3000], DAMAGED),
    'almost jpeg': (encode(NOISE, 'JPEG')[:-300], DAMAGED),
    'half png': (encode(NOISE, 'PNG')[:8000], DAMAGED),
    'half webp': (encode(NOISE, 'WEBP')[:1500], DAMAGED),
    'half tiff': (encode(NOISE, 'TIFF')[:9000], DAMAGED),
    'float tiff': (encode(GREY.astype(np.float32), 'TIFF'), OTHER),
    'float colour': (encode_cv2(RGB.astype(np.float32), '.tiff'), OTHER),
    '32-bit tiff': (encode(GREY.astype(np.int32), 'TIFF'), OTHER),
    'signed tiff': (encode_cv2(GREY.astype(np.int16), '.tiff'), OTHER),
    'pfm': (encode(GREY.astype(np.float32), 'PPM'), OTHER),
}


@pytest.mark.parametrize('name', REFUSED)
def test_unreadable_files_raise_one_line_errors(tmp_path, name):
    content, reason = REFUSED[name]
    path = tmp_path / f'{name}.jpg'
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_image(path)
    message = str(error.value)
    assert reason in message and repr(str(path)) in message and '\n' not in message


def test_missing_file_raises(tmp_path):
    with pytest.raises(ConfigError, match=r"the image '.*none.png': .*No such file"):
        read_image(tmp_path / 'none.png')


@pytest.fixture
def logged():
    """Messages of mmengine's logger."""
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def fill(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(EXACT['png'][0])


def test_images_are_listed_recursively_in_order(tmp_path, logged):
    names = ['b/2.png', 'a/1.JPEG', 'a/deep/er/3.TIFF', 'ä 図.webp', 'c.tar.Png']
    fill(tmp_path, *names, '.hidden.png', '.git/x.png', 'b/.cache/y.png')
    (tmp_path / 'empty').mkdir()
    listing = list_images(tmp_path)
    assert listing.files == sorted(names)
    assert listing.classes == ['a', 'b', 'empty']
    assert not listing.left_out and not logged


def test_skipped_files_are_counted(tmp_path, logged):
    fill(tmp_path, 'a/1.png', 'a/2.jfif', 'a/3.HEIC', 'b/4.heic', 'b/5.avif', 'b/6')
    (tmp_path / 'a/loop').symlink_to('loop')
    os.mkfifo(tmp_path / 'a/pipe.txt')
    listing = list_images(str(tmp_path))
    assert listing.files == ['a/1.png']
    assert listing.left_out == Counter(
        {'.heic': 2, 'no extension': 2} | dict.fromkeys(['.jfif', '.avif', '.txt'], 1)
    )
    (line,) = logged
    assert line.startswith(f'{tmp_path}: 1 images in 2 classes; left out: ')
    for part in ('.heic (2)', 'no extension (2)', '.jfif (1)'):
        assert part in line
    assert '\n' not in line


def test_symlinked_folders_are_listed_once(tmp_path):
    fill(tmp_path, 'data/b/1.png', 'data/b/c/2.png', 'other/x/3.png', 'other/4.png')
    data = tmp_path / 'data'
    (data / 'b/up').symlink_to(data)  # a loop
    (data / 'a').symlink_to(data / 'b')  # sorted before the folder itself
    (data / 'e').symlink_to(tmp_path / 'other')
    (data / 'd').symlink_to(tmp_path / 'other')
    (data / 'file.png').symlink_to(tmp_path / 'other/4.png')
    (data / 'self').symlink_to('self')
    listing = list_images(data)
    expected = ['b/1.png', 'b/c/2.png', 'd/4.png', 'd/x/3.png', 'file.png']
    assert listing.files == expected
    assert listing.classes == ['b', 'd']
    assert listing.left_out == {'links to listed folders': 3, 'no extension': 1}


def test_unreadable_folders_are_counted(tmp_path, monkeypatch):
    fill(tmp_path, 'a/1.png', 'b/2.png')
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith('b'):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    listing = list_images(tmp_path)
    assert listing.files == ['a/1.png']
    assert listing.left_out == {'unreadable folders': 1}


def test_non_utf8_names(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b'caf\xe9')
    os.mkdir(folder)
    for name in (b'\xff\xfe.png', b'damaged-\xff.jpg'):
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(EXACT['png'][0] if name.endswith(b'png') else b'no image')
    listing = list_images(tmp_path)
    names = [os.fsencode(file) for file in listing.files]
    assert names == [b'caf\xe9/damaged-\xff.jpg', b'caf\xe9/\xff\xfe.png']
    assert [os.fsencode(name) for name in listing.classes] == [b'caf\xe9']
    damaged, good = (tmp_path / file for file in listing.files)
    np.testing.assert_array_equal(read_image(good), expected_bgr(RGB))
    with pytest.raises(ConfigError) as error:
        read_image(damaged)
    assert str(error.value).encode()  # can be printed
    assert repr(str(damaged)) in str(error.value)
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=[dict(type='LoadImage')])
    np.testing.assert_array_equal(dataset[1]['img'], expected_bgr(RGB))


def test_folder_without_images_raises(tmp_path):
    with pytest.raises(ConfigError, match='none is not a folder'):
        list_images(tmp_path / 'none')
    fill(tmp_path, 'a/1.gif')
    with pytest.raises(ConfigError, match=r'no images \(.jpg, .*left out: .gif \(1\)'):
        list_images(tmp_path)
    fill(tmp_path, '2.png')
    assert list_images(tmp_path).files == ['2.png']
    with pytest.raises(ConfigError, match=r'images outside the class folders \(1\)'):
        list_images(tmp_path, by_class=True)


class Pixels(nn.Module):
    """A backbone whose feature map is its input."""

    normalization = ((0, 0, 0), (255, 255, 255))

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return (images.flatten(1),)


@pytest.fixture
def every_kind(tmp_path):
    """Config of a dataset of all files that are read."""
    for kind, (content, _) in EXACT.items():
        (tmp_path / f'{kind}.png').write_bytes(content)
    return dict(
        type='ImageFolder',
        data_root=str(tmp_path),
        with_label=False,
        pipeline=[dict(type='LoadImage'), dict(type='PackInputs')],
    )


def test_training_and_features_read_same_pixels(every_kind):
    dataset = DATASETS.build({**every_kind, 'pipeline': [dict(type='LoadImage')]})
    assert len(dataset) == len(EXACT)
    for sample in dataset:
        image, path = sample['img'], sample['img_path']
        np.testing.assert_array_equal(image, read_image(path))
        features = extract_features(Pixels(), [path], img_size=image.shape[:2])
        rgb = torch.from_numpy(image[:, :, ::-1].copy()).permute(2, 0, 1)
        torch.testing.assert_close(features[0], rgb.flatten() / 255)


@pytest.mark.parametrize(
    ('mode', 'expected'),
    [('L', GREY), ('RGBA', RGB), ('P', PALETTE[INDEX]), ('CMYK', RGB), ('I;16', None)],
)
def test_pil_images_match_their_files(mode, expected):
    kinds = {
        'L': 'grey png',
        'RGBA': 'alpha png',
        'P': 'palette with alpha',
        'CMYK': 'cmyk tiff',
        'I;16': '16-bit grey png',
    }
    image = Image.open(io.BytesIO(EXACT[kinds[mode]][0]))
    assert image.mode == mode
    if expected is None:
        with pytest.raises(ValueError, match='PIL images of mode I;16 are ambiguous'):
            extract_features(Pixels(), [image])
        return
    features = extract_features(Pixels(), [image], img_size=(HEIGHT, WIDTH))
    rgb = torch.from_numpy(expected_bgr(expected)[:, :, ::-1].copy()).permute(2, 0, 1)
    torch.testing.assert_close(features[0], rgb.flatten() / 255)


def test_visualization_reads_same_pixels(every_kind):
    loader = dict(
        dataset=every_kind,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        batch_size=1,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batch = fixed_batch(StrictRunner.build_dataloader(loader), 99)
    assert len(batch['inputs']) == len(EXACT)
    for inputs, sample in zip(batch['inputs'], batch['data_samples']):
        expected = read_image(sample.img_path).transpose(2, 0, 1)
        np.testing.assert_array_equal(inputs.numpy(), expected)
