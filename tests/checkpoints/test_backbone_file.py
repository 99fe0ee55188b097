# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmcim.checkpoints.backbone_file import backbone_path, read_safetensors
from safetensors.torch import save_file

from mmcim.checkpoints import read_backbone, save_backbone
from mmcim.utils import ConfigError

METADATA = dict(method='CIM', epoch='3', backbone='{"type": "ResNet"}')


@pytest.fixture
def tensors():
    whole = torch.arange(12.0).view(3, 4)
    # A view, a transposed one, tensors that share memory, and a counter.
    return dict(a=whole[:, 1], b=whole.t(), c=whole, n=torch.tensor(5))


def test_round_trip(tensors, tmp_path):
    path = tmp_path / 'new' / 'epoch_3_backbone.safetensors'
    save_backbone(path, tensors, METADATA)
    read, metadata = read_backbone(path)
    assert metadata == METADATA
    assert read.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(read[name], value) and read[name].dtype == value.dtype


def test_path_is_beside_the_checkpoint():
    path = backbone_path('runs/a.b/best_accuracy_top1_epoch_3.pth')
    assert str(path) == 'runs/a.b/best_accuracy_top1_epoch_3_backbone.safetensors'


def test_nothing_half_written(tensors, tmp_path, monkeypatch):
    path = tmp_path / 'x_backbone.safetensors'
    save_backbone(path, tensors, METADATA)
    before = path.read_bytes()

    def full(fd):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('mmcim.utils.files.os.fsync', full)
    with pytest.raises(OSError, match='No space'):
        save_backbone(path, dict(a=torch.zeros(9)), METADATA)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_no_tensors(tmp_path):
    with pytest.raises(ValueError, match='no tensors'):
        save_backbone(tmp_path / 'x.safetensors', {}, METADATA)
    assert not list(tmp_path.iterdir())


def test_foreign_file_has_tensors_but_no_network(tmp_path):
    path = tmp_path / 'timm.safetensors'
    save_file(dict(a=torch.ones(2)), path, metadata=dict(format='pt'))
    assert torch.equal(read_safetensors(path)[0]['a'], torch.ones(2))
    with pytest.raises(ConfigError, match=r"timm.* 1 tensors .*\['format'\] lack 'back"):
        read_backbone(path)


def test_missing_and_damaged(tensors, tmp_path):
    with pytest.raises(ConfigError, match='nowhere.safetensors does not exist'):
        read_backbone(tmp_path / 'nowhere.safetensors')
    path = tmp_path / 'cut.safetensors'
    save_backbone(path, tensors, METADATA)
    for content in (path.read_bytes()[:-9], b'not a file'):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match='cut.safetensors is damaged'):
            read_backbone(path)
