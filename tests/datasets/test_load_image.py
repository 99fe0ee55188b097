# Copyright (c) mmcim contributors. All rights reserved.
"""LoadImage; formats are tested with read_image."""

import io
import logging

import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmengine.logging.logger import FilterDuplicateWarning
from mmpretrain.datasets import CustomDataset
from PIL import Image
from torch.utils.data import ConcatDataset

from mmcim.datasets.transforms import LoadImage, list_skipped
from mmcim.utils import ConfigError

RGB = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8)


def encode(array, kind):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def test_load_image_adds_image_and_shapes(tmp_path):
    path = tmp_path / 'image.png'
    path.write_bytes(encode(RGB, 'PNG'))
    results = LoadImage()(dict(img_path=str(path), gt_label=3))
    np.testing.assert_array_equal(results['img'], RGB[:, :, ::-1])
    assert results['img_shape'] == results['ori_shape'] == (90, 70)
    assert results['gt_label'] == 3


def test_loaded_image_is_kept():
    results = dict(img=RGB)
    assert LoadImage()(results) is results and results['img'] is RGB


def test_unreadable_image_raises_or_returns_none(tmp_path):
    path = tmp_path / 'image.png'
    path.write_bytes(encode(RGB, 'PNG')[:8000])
    with pytest.raises(ConfigError, match='image.png'):
        LoadImage()(dict(img_path=str(path)))
    assert LoadImage(ignore_empty=True)(dict(img_path=str(path))) is None


def test_skipped_images_are_listed_once_and_limited(tmp_path):
    """Each process has its own transform; all write to the same file."""
    np.random.seed(0)  # what is taken instead must not be the third broken one
    for index in range(40):
        content = encode(RGB, 'PNG') if index < 37 else b'no image'
        (tmp_path / f'{index}.png').write_bytes(content)
    load = dict(type='LoadImage', ignore_empty=True)
    datasets = [
        CustomDataset(data_root=str(tmp_path), with_label=False, pipeline=[load])
        for _ in range(2)
    ]
    path = tmp_path / 'unreadable_images.txt'
    for dataset in datasets:
        list_skipped(ConcatDataset([dataset]), str(path))
    broken = [
        i for i in range(40) if datasets[0].get_data_info(i)['img_path'][-6:-4] >= '37'
        and datasets[0].get_data_info(i)['img_path'][-6:-4].isdigit()
    ]  # fmt: skip
    for dataset in datasets * 2:
        for index in broken[:2]:
            assert dataset[index]['img'].shape == (90, 70, 3)
    assert len(path.read_text().splitlines()) == 2
    with pytest.raises(ConfigError, match='3 of 40 .*max_skipped=0.05 .*listed in') as e:
        datasets[0][broken[2]]
    assert str(path) in str(e.value)
    assert len(path.read_text().splitlines()) == 3


def test_images_of_all_parts_are_counted(tmp_path):
    """Of 50 images, 2 are unreadable: one of 40, and one of 10."""
    parts = []
    for name, number in dict(large=40, small=10).items():
        (tmp_path / name).mkdir()
        for index in range(number):
            content = encode(RGB, 'PNG') if index else b'no image'
            (tmp_path / name / f'{index}.png').write_bytes(content)
        load = dict(type='LoadImage', ignore_empty=True)
        root = str(tmp_path / name)
        parts.append(CustomDataset(data_root=root, with_label=False, pipeline=[load]))
    list_skipped(ConcatDataset(parts), str(tmp_path / 'list.txt'))
    for part in parts:
        assert part[0]['img'].shape == (90, 70, 3)
    assert len((tmp_path / 'list.txt').read_text().splitlines()) == 2


class Messages(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def test_dataset_replaces_unreadable_image(tmp_path):
    for index in range(3):
        (tmp_path / f'{index}.png').write_bytes(encode(RGB, 'PNG'))
    (tmp_path / 'half-jpeg.jpg').write_bytes(encode(RGB, 'JPEG')[:3000])
    (tmp_path / 'garbage.jpg').write_bytes(bytes(range(256)))
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
