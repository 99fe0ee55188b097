# Copyright (c) mmcim contributors. All rights reserved.
"""Safe loading; a whole run's checkpoint is loaded in tests/tools/test_train.py."""

import os
from argparse import Namespace
from fractions import Fraction

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmcim.checkpoints import load_checkpoint
from mmcim.utils import ConfigError


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_logs_and_numpy_values_of_mmengine(tmp_path):
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    content = dict(
        state_dict={'weight': torch.ones(2)},
        history=history,
        score=np.float64(0.5),
        count=np.int64(3),
        palette=np.array([[1, 2]], dtype=np.uint8),
    )
    torch.save(content, tmp_path / 'a.pth')
    loaded = load_checkpoint(tmp_path / 'a.pth')
    assert torch.equal(loaded['state_dict']['weight'], torch.ones(2))
    assert loaded['history'].mean() == 2.0
    assert loaded['history'].statistics('max') == 3.0
    assert (loaded['score'], loaded['count']) == (0.5, 3)
    assert loaded['palette'].tolist() == [[1, 2]]
    assert loaded['palette'].dtype == np.uint8


def test_arguments_of_other_programs(tmp_path):
    """Of timm, BEiT, MAE and DeiT."""
    args = Namespace(lr=1e-3, opt_betas=(0.9, 0.95), output_dir='out', resume=None)
    torch.save(dict(model={'a': torch.ones(2)}, args=args, epoch=3), tmp_path / 'a.pth')
    loaded = load_checkpoint(tmp_path / 'a.pth')
    assert torch.equal(loaded['model']['a'], torch.ones(2))
    assert loaded['args'] == args


@pytest.mark.parametrize(
    'value',
    [
        Call(os.mkdir, 'called'),
        Call(eval, 'open("called", "w")'),
        # mmengine lets getattr through.
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, torch.Tensor, 'backward'),
        Fraction(1, 2),
        Namespace(a=Call(os.mkdir, 'called')),
    ],
    ids=['mkdir', 'eval', 'getattr', 'getattr_tensor', 'class', 'in_arguments'],
)
def test_refuses_anything_else(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {}, 'meta': value}, 'bad.pth')
    with pytest.raises(ConfigError, match='bad.pth holds more than tensors') as error:
        load_checkpoint('bad.pth')
    assert 'state_dict' not in str(error.value)  # it may have another name
    assert os.listdir() == ['bad.pth']


def test_missing_and_damaged(tmp_path):
    with pytest.raises(ConfigError, match='nowhere.pth does not exist'):
        load_checkpoint(tmp_path / 'nowhere.pth')
    torch.save({'a': torch.ones(1000)}, tmp_path / 'whole.pth')
    whole = (tmp_path / 'whole.pth').read_bytes()
    for name, content in dict(half=whole[:2000], empty=b'', text=b'hello').items():
        file = tmp_path / f'{name}.pth'
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=f'{name}.pth'):
            load_checkpoint(file)


def test_flipped_bits_are_found(tmp_path, monkeypatch):
    """Anywhere in the weights; torch.load would give other weights."""
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {'a': torch.ones(1000), 'b': torch.ones(9)}}, 'x.pth')
    whole = (tmp_path / 'x.pth').read_bytes()
    start = whole.index(torch.ones(1000).numpy().tobytes())
    random = np.random.default_rng(0)
    for place, bit in zip(random.integers(4000, size=24), random.integers(8, size=24)):
        flipped = bytearray(whole)
        flipped[start + place] ^= 1 << bit
        (tmp_path / 'flipped.pth').write_bytes(flipped)
        with pytest.raises(ConfigError, match='flipped.pth is damaged: .*checksum'):
            load_checkpoint('flipped.pth')
    load_checkpoint('x.pth')


def test_old_format_has_no_checksums(tmp_path):
    content = {'a': torch.ones(3)}
    torch.save(content, tmp_path / 'x.pth', _use_new_zipfile_serialization=False)
    assert torch.equal(load_checkpoint(tmp_path / 'x.pth')['a'], torch.ones(3))


def test_config_that_mmengine_would_execute_is_left_out(tmp_path):
    meta = dict(config='open("called", "w")', epoch=3)
    torch.save(dict(meta=meta, state_dict={}), tmp_path / 'x.pth')
    assert load_checkpoint(tmp_path / 'x.pth')['meta'] == dict(epoch=3)


def test_mmengine_loads_safely(tmp_path, monkeypatch):
    """Which covers resuming, load_from and init_cfg, and has no unsafe second try."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {}, 'meta': Call(os.mkdir, 'called')}, 'bad.pth')
    use_safe_loading()
    with pytest.raises(ConfigError, match='bad.pth'):
        CheckpointLoader.load_checkpoint('bad.pth')
    assert not os.path.exists('called')
    torch.save({'state_dict': {'a': torch.ones(1)}}, 'good.pth')
    loaded = CheckpointLoader.load_checkpoint('good.pth', map_location='cpu')
    assert torch.equal(loaded['state_dict']['a'], torch.ones(1))
