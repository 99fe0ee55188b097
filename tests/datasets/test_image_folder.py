# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image

from mmcim.datasets import ImageFolder


@pytest.fixture
def folder(tmp_path):
    for name in ('ape', 'bee'):
        (tmp_path / name).mkdir()
        for i in range(100):
            image = Image.fromarray(np.full((4, 4, 3), i, dtype=np.uint8))
            image.save(tmp_path / name / f'{i}.png')
    return tmp_path


def paths(dataset):
    return {dataset.get_data_info(i)['img_path'] for i in range(len(dataset))}


def test_subsets_are_complementary(folder):
    train = ImageFolder(subset='train', data_root=str(folder))
    val = ImageFolder(subset='val', data_root=str(folder))
    assert len(train) + len(val) == 200
    assert not paths(train) & paths(val)
    assert 20 <= len(val) <= 60  # 40 expected, of sigma 5.7
    assert train.CLASSES == val.CLASSES == ('ape', 'bee')
    assert set(val.get_gt_labels()) == {0, 1}


def test_new_image_does_not_move_others(folder):
    before = paths(ImageFolder(subset='val', data_root=str(folder)))
    Image.new('RGB', (4, 4)).save(folder / 'ape' / 'new.png')
    after = paths(ImageFolder(subset='val', data_root=str(folder)))
    assert before == after - {str(folder / 'ape' / 'new.png')}


def test_unlabeled_folder(folder):
    dataset = ImageFolder(subset='train', data_root=str(folder), with_label=False)
    assert 'gt_label' not in dataset.get_data_info(0)


def test_labels_match_mmpretrain(folder):
    (folder / 'empty').mkdir()  # keeps its label
    Image.new('RGB', (4, 4)).save(folder / 'outside.png')
    dataset = ImageFolder(data_root=str(folder))
    expected = CustomDataset(data_root=str(folder))
    assert len(dataset) == 200
    assert dataset.CLASSES == expected.CLASSES == ('ape', 'bee', 'empty')
    for i in range(200):
        assert dataset.get_data_info(i) == expected.get_data_info(i)


def test_missing_annotation_file_raises(folder):
    (folder / 'list.txt').write_text('ape/3.png 1\nbee/4.png 0\n')
    dataset = ImageFolder(data_root=str(folder), ann_file='list.txt')
    assert dataset.get_gt_labels().tolist() == [1, 0]
    with pytest.raises(ValueError, match='with ann_file, None'):
        ImageFolder(data_root=str(folder), ann_file='list.txt', subset='train')


def test_errors_name_the_problem(folder):
    with pytest.raises(ValueError, match='subset'):
        ImageFolder(subset='test', data_root=str(folder))
    with pytest.raises(ValueError, match='has no image for subset'):
        ImageFolder(subset='val', val_fraction=0.0, data_root=str(folder))
