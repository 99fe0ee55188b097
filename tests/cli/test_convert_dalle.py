# Copyright (c) mmcim contributors. All rights reserved.
"""The converter. It runs as a process also in test_dalle.py, with equal results."""

import os
import re
import runpy
import signal
import subprocess
import sys

import pytest
import torch
from mmpretrain.registry import MODELS
from safetensors import safe_open
from safetensors.torch import load_file

from mmcim.models.tokenizers import DALLETokenizer

dall_e = pytest.importorskip('dall_e', reason='needs "pip install dall-e attrs"')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """OpenAI's two files and mmpretrain's, all with random narrow networks."""
    folder = tmp_path_factory.mktemp('official')
    torch.manual_seed(0)
    sizes = dict(n_hid=64, vocab_size=512)
    torch.save(dall_e.Encoder(**sizes), folder / 'encoder.pkl')
    torch.save(dall_e.Decoder(**sizes), folder / 'decoder.pkl')
    mmpretrain = MODELS.build(dict(type='DALL-E', **sizes))
    torch.save(mmpretrain.state_dict(), folder / 'dalle_encoder.pth')
    (folder / 'page.pkl').write_text('<html>not found</html>')
    (folder / 'short.pkl').write_bytes((folder / 'encoder.pkl').read_bytes()[:5000])
    torch.save({'weight': torch.zeros(2)}, folder / 'other.pth')
    return folder


@pytest.fixture
def convert(repo, files, monkeypatch, capsys):
    """Run the tool in this process, where its imports cost nothing."""

    def run(out, *args):
        tool = str(repo / 'tools/model_converters/convert_dalle.py')
        monkeypatch.chdir(files)
        monkeypatch.setattr(sys, 'argv', [tool, *args, '--out', str(out)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            runpy.run_path(tool, run_name='__main__')
            code = 0
        except SystemExit as exit_:
            code = exit_.code
        finally:
            signal.signal(signal.SIGTERM, before)
        return code, *capsys.readouterr()

    return run


def test_writes_official_weights_with_their_hash(convert, files, tmp_path):
    out = tmp_path / 'new' / 'dalle.safetensors'
    args = ('encoder.pkl', 'decoder.pkl', '--trust-pickle')
    code, stdout, stderr = convert(out, *args)
    assert code == 0, stderr
    assert 'unpickling encoder.pkl runs whatever code it contains' in stderr

    encoder = torch.load(files / 'encoder.pkl', weights_only=False).state_dict()
    decoder = torch.load(files / 'decoder.pkl', weights_only=False).state_dict()
    tensors = load_file(out)
    expected = {f'encoder.{k}': v for k, v in encoder.items()}
    expected |= {f'decoder.{k}': v for k, v in decoder.items()}
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[key], expected[key]) for key in expected)

    sha256 = DALLETokenizer(str(out)).identity['sha256']
    with safe_open(out, 'pt') as file:
        assert file.metadata()['sha256'] == sha256
    assert sha256 in stdout
    assert [path.name for path in out.parent.iterdir()] == [out.name]

    # A second time only by force.
    content = out.read_bytes()
    code, _, stderr = convert(out, *args)
    assert code == 2
    assert 'exists; add --force' in stderr
    assert convert(out, *args, '--force')[0] == 0
    assert out.read_bytes() == content


def test_takes_mmpretrains_encoder(convert, files, tmp_path):
    out = tmp_path / 'dalle.safetensors'
    args = ('dalle_encoder.pth', 'decoder.pkl', '--trust-pickle')
    code, _, stderr = convert(out, *args)
    assert code == 0, stderr
    assert 'unpickling dalle_encoder.pth' not in stderr  # plain tensors
    tensors = load_file(out)
    for key, value in torch.load(files / 'dalle_encoder.pth').items():
        assert torch.equal(tensors[f'encoder.{key}'], value)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('encoder.pkl', 'decoder.pkl'),
         'encoder.pkl holds more than tensors.*: --trust-pickle runs whatever code'),
        (('decoder.pkl', 'encoder.pkl', '--trust-pickle'),
         'decoder.pkl as encoder with encoder.pkl as decoder does not fit: '),
        (('encoder.pkl', 'encoder.pkl', '--trust-pickle'),
         'encoder.pkl as encoder with encoder.pkl as decoder does not fit: '),
        (('none.pkl', 'decoder.pkl', '--trust-pickle'), 'none.pkl cannot be unpickled'),
        (('none.pkl', 'decoder.pkl'), 'none.pkl does not exist'),
        (('page.pkl', 'decoder.pkl', '--trust-pickle'), 'page.pkl cannot be unpickled'),
        (('page.pkl', 'decoder.pkl'), 'page.pkl is damaged or not a checkpoint'),
        (('short.pkl', 'decoder.pkl', '--trust-pickle'), 'short.pkl cannot be unpickled'),
        (('other.pth', 'decoder.pkl', '--trust-pickle'),
         'other.pth as encoder .* does not fit: missing .encoder.blocks.input.w'),
    ],
    ids=[
        'untrusted', 'swapped', 'twice', 'missing', 'missing untrusted', 'page',
        'page untrusted', 'short', 'other',
    ],
)  # fmt: skip
def test_errors_write_no_file(convert, tmp_path, args, message):
    code, _, stderr = convert(tmp_path / 'dalle.safetensors', *args)
    assert code == 2
    errors = [line for line in stderr.splitlines() if 'error: ' in line]
    assert len(errors) == 1
    assert re.search(message, errors[0]), errors[0]
    assert list(tmp_path.iterdir()) == []


def test_output_must_be_a_safetensors_file(convert, files, tmp_path):
    code, _, stderr = convert(tmp_path / 'dalle.pth', 'encoder.pkl', 'decoder.pkl')
    assert code == 2
    assert 'must end with .safetensors' in stderr


def test_process_refuses_to_unpickle(repo, files, tmp_path):
    tool = repo / 'tools/model_converters/convert_dalle.py'
    out = tmp_path / 'dalle.safetensors'
    done = subprocess.run(
        [sys.executable, tool, 'encoder.pkl', 'decoder.pkl', '--out', out],
        cwd=files,
        env={**os.environ, 'PYTHONPATH': str(repo)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    assert ': --trust-pickle runs' in done.stderr
    assert list(tmp_path.iterdir()) == []
