# Copyright (c) mmcim contributors. All rights reserved.
"""Files are read as data, completely; both kinds contain a backbone and its config."""

import json
import os
import threading
from argparse import Namespace
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import DefaultScope
from safetensors import safe_open
from safetensors.torch import save_file

from mmcim.checkpoints import (
    BackboneFile,
    BackboneRecord,
    file,
    load_checkpoint,
    read_weights,
    save_backbone,
)
from mmcim.checkpoints.record import tensors_sha256
from mmcim.utils import ConfigError

from .corpus import ENHANCER, GENERATOR, LFS, VIT, draw, own_file


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def test_mmengine_checkpoints_are_read(tmp_path):
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


def test_argparse_namespaces_are_read(tmp_path):
    """As in checkpoints of timm, BEiT, MAE and DeiT."""
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
def test_other_pickled_objects_raise(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {}, 'meta': value}, 'bad.pth')
    with pytest.raises(ConfigError, match='bad.pth holds more than tensors') as error:
        load_checkpoint('bad.pth')
    assert 'state_dict' not in str(error.value)  # it may have another name
    assert os.listdir() == ['bad.pth']


@pytest.mark.parametrize('name', ['nowhere.pth', 'nowhere.safetensors'])
def test_missing_file_raises(tmp_path, name):
    with pytest.raises(ConfigError, match=f'{name} does not exist'):
        read_weights(tmp_path / name)


@pytest.mark.parametrize('name', ['net.pth', 'net.safetensors'])
def test_git_lfs_pointer_raises(tmp_path, name):
    (tmp_path / name).write_bytes(LFS)
    with pytest.raises(ConfigError, match=f'{name} is damaged .*git lfs pull'):
        read_weights(tmp_path / name)


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save({'a': torch.ones(3)}, tmp_path / 'x.pth')
    assert torch.equal(read_weights('~/x.pth').tensors['a'], torch.ones(3))


def test_flipped_bits_raise(tmp_path, monkeypatch):
    """At any position of the weights; torch.load would return wrong weights."""
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {'a': torch.ones(1000), 'b': torch.ones(9)}}, 'x.pth')
    whole = (tmp_path / 'x.pth').read_bytes()
    start = whole.index(torch.ones(1000).numpy().tobytes())
    random = np.random.default_rng(0)
    for place, bit in zip(random.integers(4000, size=24), random.integers(8, size=24)):
        flipped = bytearray(whole)
        flipped[start + place] ^= 1 << bit
        (tmp_path / 'flipped.pth').write_bytes(flipped)
        with pytest.raises(ConfigError, match='flipped.pth is damaged .*checksum'):
            load_checkpoint('flipped.pth')
    load_checkpoint('x.pth')


def test_executable_config_text_is_dropped(tmp_path):
    meta = dict(config='open("called", "w")', epoch=3)
    torch.save(dict(meta=meta, state_dict={}), tmp_path / 'x.pth')
    assert load_checkpoint(tmp_path / 'x.pth')['meta'] == dict(epoch=3)


@pytest.mark.parametrize('container', ['state_dict', 'model', 'module', None])
def test_weights_are_extracted_from_checkpoint(tmp_path, container):
    state = dict(a=torch.ones(2), nested=dict(b=dict(c=torch.zeros(1))), epoch=5)
    content = {container: state, 'meta': dict(epoch=3)} if container else state
    content['optimizer'] = dict(state={0: torch.ones(4)})
    torch.save(content, tmp_path / 'x.pth')
    file = read_weights(tmp_path / 'x.pth')
    assert list(file.tensors) == ['a', 'nested.b.c']
    assert file.meta == (dict(epoch=3) if container else {})


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (dict(epoch=3, optimizer={}), r"\['epoch', 'optimizer'\]"),
        (dict(state_dict={}), r"\['state_dict'\]"),
        (torch.zeros(2), r'\[\]'),
        ([1, 2], r'\[\]'),
    ],
)
def test_file_without_weights_raises(tmp_path, content, found):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ConfigError, match=f'x.pth holds no weights: .*; found {found}$'):
        read_weights(tmp_path / 'x.pth')


# --------------------------------------------------------------------------------------
# Downloads


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve ``tmp_path/www``; downloads are kept in ``tmp_path/home``."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'www').mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / 'www'))
    monkeypatch.setattr(SimpleHTTPRequestHandler, 'log_message', lambda *args: None)
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f'http://127.0.0.1:{httpd.server_port}'
        httpd.shutdown()
        thread.join()


def lists(monkeypatch, **urls):
    """Replace mmengine's list of addresses."""
    for scheme in ('torchvision', 'open-mmlab'):
        monkeypatch.setitem(file._MODEL_LISTS, scheme, lambda: urls)


@pytest.mark.parametrize('scheme', ['http', 'torchvision', 'open-mmlab'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_urls_are_downloaded(server, tmp_path, scheme, suffix, monkeypatch):
    """The second time the file is in the cache."""
    name = f'net{suffix}'
    if suffix == '.pth':
        meta = dict(config='run()', epoch=1)
        torch.save(dict(state_dict={'a': torch.ones(2)}, meta=meta), f'www/{name}')
    else:
        save_file({'a': torch.ones(2)}, f'www/{name}', metadata=dict(epoch='1'))
    lists(monkeypatch, net=f'{server}/{name}')
    address = f'{server}/{name}' if scheme == 'http' else f'{scheme}://net'
    for _ in range(2):
        found = read_weights(address)
        assert torch.equal(found.tensors['a'], torch.ones(2))
        assert found.meta == dict(epoch=1 if suffix == '.pth' else '1')
        (tmp_path / 'www' / name).unlink(missing_ok=True)
    (kept,) = os.listdir('home/hub/checkpoints')
    assert kept.endswith(f'-{name}')


def test_downloads_with_same_name_do_not_collide(server):
    for number in range(2):
        os.mkdir(f'www/{number}')
        save_file({'a': torch.full((2,), number)}, f'www/{number}/model.safetensors')
    for number in range(2):
        found = read_weights(f'{server}/{number}/model.safetensors')
        assert found.tensors['a'].tolist() == [number] * 2


def test_damaged_download_raises(server, tmp_path):
    """The error names the file in the cache, to be removed."""
    torch.save({'a': torch.ones(1000)}, 'www/net.pth')
    data = bytearray((tmp_path / 'www/net.pth').read_bytes())
    data[data.index(torch.ones(1000).numpy().tobytes()) + 7] ^= 1
    (tmp_path / 'www/net.pth').write_bytes(data)
    with pytest.raises(
        ConfigError, match='hub/checkpoints/.*-net.pth is damaged .*checksum'
    ):
        read_weights(f'{server}/net.pth')


def test_downloaded_code_is_not_executed(server, tmp_path):
    torch.save(dict(state_dict={}, evil=Call(os.mkdir, 'called')), 'www/evil.pth')
    with pytest.raises(ConfigError, match='evil.pth holds more than tensors'):
        read_weights(f'{server}/evil.pth')
    assert not (tmp_path / 'called').exists()


@pytest.mark.parametrize('url', ['{}/none.pth', 'torchvision://no_such_network'])
def test_failed_download_raises(server, url):
    url = url.format(server)
    with pytest.raises(ConfigError, match=f'{url} cannot be downloaded: .*(404|no_such)'):
        read_weights(url)


# --------------------------------------------------------------------------------------
# A backbone


MEAN, STD = [127.5, 51.0, 0.0], [255.0, 25.5, 51.0]


@pytest.mark.parametrize('kind', ['exported', 'pretraining'])
def test_checkpoint_and_export_hold_same_backbone(tmp_path, kind):
    tensors = draw(VIT)
    file = BackboneFile.read(own_file(tmp_path, kind, VIT, tensors, grid=(4, 4)))
    prefix = '' if kind == 'exported' else ENHANCER
    assert file.prefix == file.record.prefix == prefix
    found = file.below(prefix)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert file.record.grid == (4, 4)
    with DefaultScope.overwrite_default_scope('mmseg'):  # which has its own ViT
        net = file.build()
    assert type(net).__module__ == 'mmpretrain.models.backbones.vision_transformer'
    assert not net.training and net.state_dict().keys() == tensors.keys()


@pytest.mark.parametrize('prefix', [GENERATOR, GENERATOR[:-1]])
def test_explicit_prefix_overrides_record(tmp_path, prefix):
    """The record does not apply to it."""
    path = own_file(tmp_path, 'pretraining', VIT, draw(VIT))
    file = BackboneFile.read(path, prefix)
    assert file.prefix == GENERATOR and file.record is None
    assert BackboneFile.read(path, ENHANCER).record is not None
    assert BackboneFile.read(path, '').prefix == ''
    with pytest.raises(ConfigError, match='epoch_1.pth does not say which network'):
        file.build()


def test_foreign_files_have_no_record(tmp_path):
    save_file(draw(VIT), tmp_path / 'x.safetensors', metadata=dict(format='pt'))
    file = BackboneFile.read(tmp_path / 'x.safetensors')
    assert (file.prefix, file.record, file.normalization) == (None, None, None)
    with pytest.raises(ConfigError, match=r'x\.safetensors does not .*load_into'):
        file.build()


def test_build_overrides_config(tmp_path):
    file = BackboneFile.read(own_file(tmp_path, 'exported', VIT, draw(VIT)))
    net = file.build(out_type='cls_token', img_size=48)
    assert net.pos_embed.shape == (1, 37, 32)
    assert net(torch.zeros(1, 3, 48, 48))[0].shape == (1, 32)


@pytest.mark.parametrize(
    'config', [dict(VIT, arch='none'), dict(VIT, colour='red'), dict(VIT, arch=dict(a=1))]
)
def test_build_failure_raises(tmp_path, config):
    path = own_file(tmp_path, 'exported', dict(config), draw(VIT))
    with pytest.raises(ConfigError, match=f'{path.name}: its backbone cannot be built'):
        BackboneFile.read(path).build()


def test_normalization_comes_from_record(tmp_path):
    tensors = draw(VIT)
    record = BackboneRecord(VIT, tensors_sha256(tensors), mean=MEAN, std=STD)
    save_backbone(tmp_path / 'x.safetensors', tensors, record)
    file = BackboneFile.read(tmp_path / 'x.safetensors')
    assert file.normalization == (MEAN, STD)


RECORD = dict(config=VIT, sha256='0')


@pytest.mark.parametrize(
    'record',
    [
        '{', '[' * 3000, '{"config": ', '7', 'null', '"resnet50"', '[]', '{}',
        *(
            json.dumps(RECORD | change)
            for change in (
                dict(unknown=1),
            )
        ),
    ],
)  # fmt: skip
def test_unreadable_record_raises(tmp_path, record):
    metadata = dict(backbone=record)
    save_file(dict(a=torch.zeros(1)), tmp_path / 'x.safetensors', metadata=metadata)
    message = 'x.safetensors: its record of the backbone cannot be read'
    with pytest.raises(ConfigError, match=message) as error:
        BackboneFile.read(tmp_path / 'x.safetensors')
    assert '\n' not in str(error.value)


def test_hash_mismatch_raises(tmp_path):
    text = json.dumps(RECORD | dict(sha256=7))
    torch.save(dict(state_dict=draw(VIT), meta=dict(backbone=text)), tmp_path / 'x.pth')
    with pytest.raises(ConfigError, match=r'x\.pth is damaged: .* SHA-256'):
        BackboneFile.read(tmp_path / 'x.pth')


def test_safetensors_are_portable(tmp_path):
    """Files of mmcim are ordinary safetensors files."""
    tensors = draw(VIT)
    path = own_file(tmp_path, 'exported', VIT, tensors)
    with safe_open(path, 'pt') as file:
        assert {*file.keys()} == tensors.keys()
        assert file.metadata()['format'] == 'pt'
