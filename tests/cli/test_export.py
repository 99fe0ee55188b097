# Copyright (c) mmcim contributors. All rights reserved.
"""The exporter, on what a training has written."""

import re
import runpy
import signal
import sys

import pytest
import timm
import torch

from mmcim.apis import load_backbone
from mmcim.checkpoints.export.samples import write_samples

from .toy_run import TOOLS

TOOL = TOOLS / 'model_converters/export_backbone.py'


@pytest.fixture
def export(monkeypatch, capsys):
    """Run the tool in this process, where its imports cost nothing."""

    def run(*args):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        before = signal.getsignal(signal.SIGTERM)
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
            code = 0
        except SystemExit as exit_:
            code = exit_.code
        finally:
            signal.signal(signal.SIGTERM, before)
        return code, *capsys.readouterr()

    return run


def test_checkpoint_and_exported_backbone_give_the_same_file(export, trained, tmp_path):
    checkpoint = max(trained.glob('epoch_*.pth'))
    plain = checkpoint.with_name(f'{checkpoint.stem}_backbone.safetensors')
    backbone = load_backbone(checkpoint, out_type='raw')
    files = write_samples(tmp_path / 'samples')
    for source in (checkpoint, plain):
        out = tmp_path / f'{source.suffix[1:]}.safetensors'
        code, stdout, stderr = export(source, '--to', 'timm', '--out', out)
        assert code == 0, stderr
        difference = re.search(r'differ from .* at most (\S+) of', stdout)[1]
        assert (source is checkpoint) == ('Left out: head.*' in stdout)
        assert float(difference) < 1e-5
        # What is printed can be pasted.
        code = re.search(r'import numpy.*?\n\n(?=Checked)', stdout, re.DOTALL)[0]
        names = dict(files=files)
        exec(code, names)
        assert isinstance(names['model'], timm.models.VisionTransformer)
        expected = backbone(names['pixels'])[-1]
        torch.testing.assert_close(names['features'], expected, rtol=0, atol=1e-5)


def test_another_size(export, trained, tmp_path):
    checkpoint, out = max(trained.glob('epoch_*.pth')), tmp_path / 'a.safetensors'
    options = ('--to', 'timm', '--out', out, '--img-size', 32, 64)
    code, stdout, stderr = export(checkpoint, *options)
    assert code == 0, stderr
    assert 'img_size=(32, 64)' in stdout


def test_errors_write_no_file(export, trained, tmp_path):
    checkpoint = max(trained.glob('epoch_*.pth'))
    foreign = tmp_path / 'foreign.pth'
    torch.save(dict(model=dict(a=torch.zeros(1))), foreign)
    there = tmp_path / 'there.safetensors'
    there.write_text('mine')
    cases = [
        ([tmp_path / 'none.pth', '--to', 'timm', '--out', 'a.safetensors'],
         'none.pth does not exist'),
        ([foreign, '--to', 'timm', '--out', 'a.safetensors'],
         'foreign.pth does not say which network its tensors are of'),
        ([checkpoint, '--to', 'timm', '--out', 'a.pth'], 'must end with .safetensors'),
        ([checkpoint, '--to', 'timm', '--out', there], 'exists; delete it'),
    ]  # fmt: skip
    for (source, to, target, option, out), message in cases:
        code, _, stderr = export(source, to, target, option, tmp_path / out)
        assert code == 2
        errors = [line for line in stderr.splitlines() if 'error: ' in line]
        assert len(errors) == 1
        assert re.search(message, errors[0]), errors[0]
    assert there.read_text() == 'mine'
    assert {path.name for path in tmp_path.iterdir()} == {foreign.name, there.name}


def test_help_names_the_targets(export):
    code, stdout, _ = export('--help')
    assert code == 0
    for target in ('timm', 'hf'):
        assert re.search(rf'^--to {target} ', stdout, re.MULTILINE)
