# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
from PIL import Image

from mmcim.datasets import PictureFolder


@pytest.fixture
def folder(tmp_path):
    for name in ('ape', 'bee'):
        (tmp_path / name).mkdir()
        for i in range(100):
            picture = Image.fromarray(np.full((4, 4, 3), i, dtype=np.uint8))
            picture.save(tmp_path / name / f'{i}.png')
    return tmp_path


def paths(dataset):
    return {dataset.get_data_info(i)['img_path'] for i in range(len(dataset))}


def test_the_subsets_are_complementary(folder):
    train = PictureFolder(subset='train', data_root=str(folder))
    val = PictureFolder(subset='val', data_root=str(folder))
    assert len(train) + len(val) == 200
    assert not paths(train) & paths(val)
    assert 20 <= len(val) <= 60  # 40 expected, of sigma 5.7
    assert train.CLASSES == val.CLASSES == ('ape', 'bee')
    assert set(val.get_gt_labels()) == {0, 1}


def test_a_new_picture_moves_no_other(folder):
    before = paths(PictureFolder(subset='val', data_root=str(folder)))
    Image.new('RGB', (4, 4)).save(folder / 'ape' / 'new.png')
    after = paths(PictureFolder(subset='val', data_root=str(folder)))
    assert before == after - {str(folder / 'ape' / 'new.png')}


def test_labels_are_not_needed(folder):
    dataset = PictureFolder(subset='train', data_root=str(folder), with_label=False)
    assert 'gt_label' not in dataset.get_data_info(0)


def test_clear_errors(folder):
    with pytest.raises(ValueError, match='subset'):
        PictureFolder(subset='test', data_root=str(folder))
    with pytest.raises(ValueError, match='has no picture for subset'):
        PictureFolder(subset='val', val_share=0.0, data_root=str(folder))
