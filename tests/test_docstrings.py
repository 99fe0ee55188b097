# Copyright (c) mmcim contributors. All rights reserved.
"""Docstrings: the examples run, and the sections have one name and one order."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from mmcim.models.tokenizers.dalle import _Decoder, _Encoder

from .backbone_files import write_backbone
from .conftest import REPO, SHARED

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
SECTIONS = ('Args', 'Attributes', 'Returns', 'Yields', 'Raises', 'Example')
VQVAE = SHARED / 'weights/vqvae_f4_512.pt'


def find_docstrings():
    """Give the name, the docstring and the module of all that mmcim documents."""
    for path in sorted((REPO / 'mmcim').rglob('*.py')):
        parts = path.relative_to(REPO).with_suffix('').parts
        module = '.'.join(part for part in parts if part != '__init__')
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
                yield '.'.join((module, getattr(node, 'name', ''))), text, module


DOCSTRINGS = list(find_docstrings())
EXAMPLES = [
    pytest.param(
        *found,
        id=found[0],
        # A config of a real size needs a backbone of that size.
        marks=[pytest.mark.slow] if 'configs/' in found[1] else [],
    )
    for found in DOCSTRINGS
    if '>>>' in found[1]
]


def write_vit(path, num_layers):
    """ViT-B, or one of the same widths with fewer and thinner layers."""
    config = dict(type='VisionTransformer', arch='deit-base', out_type='featmap')
    if num_layers < 12:
        widths = dict(embed_dims=768, num_heads=12, feedforward_channels=64)
        config['arch'] = dict(num_layers=num_layers, **widths)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    write_backbone(path, MODELS.build(config).state_dict(), config, mean=mean, std=std)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """The files that examples name, the networks smaller than real ones."""
    folder = tmp_path_factory.mktemp('examples')
    for name in ('weights', 'work_dirs/dvae', 'images'):
        (folder / name).mkdir(parents=True)
    (folder / 'configs').symlink_to(REPO / 'configs')
    for name, colour in dict(a='red', b='green').items():
        Image.new('RGB', (40, 30), colour).save(folder / f'images/{name}.png')
    write_vit(folder / 'epoch_300_backbone.safetensors', num_layers=1)
    network = MODELS.build(dict(type='DiscreteVAENet', stride=4, vocab_size=8, width=8))
    torch.save(network.state_dict(), folder / 'work_dirs/dvae/epoch_50.pth')
    dalle = nn.ModuleDict(
        dict(encoder=_Encoder(4, 1, 16), decoder=_Decoder(4, 1, 16, n_init=8))
    )
    torch.manual_seed(0)  # their tensors are empty
    tensors = {name: torch.randn_like(t) for name, t in dalle.state_dict().items()}
    save_file(tensors, folder / 'weights/dalle_dvae.safetensors')
    if VQVAE.is_file():
        (folder / 'weights/vqvae_f4_512.pt').symlink_to(VQVAE)
    return folder


@pytest.mark.parametrize('name, text, module', EXAMPLES)
def test_example_runs(name, text, module, folder, monkeypatch):
    monkeypatch.chdir(folder)
    # What is logged goes to the screen if a runner has been built before.
    monkeypatch.setattr(MMLogger, 'info', lambda *args, **kwargs: None)
    if VQVAE.name in text and not VQVAE.is_file():
        pytest.skip(f'{VQVAE} does not exist')
    if 'configs/' in text:
        write_vit('epoch_300_backbone.safetensors', num_layers=12)
    names = dict(vars(importlib.import_module(module)))
    example = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    report = []
    failed, attempted = doctest.DocTestRunner().run(example, out=report.append)
    assert attempted and not failed, ''.join(report)


def test_sections_are_in_order():
    for name, text, _ in DOCSTRINGS:
        found = re.findall(r'^([A-Z]\w+):$', text, re.MULTILINE)
        assert set(found) <= {*SECTIONS}, name
        assert found == sorted(set(found), key=SECTIONS.index), name


def test_types_are_in_annotations_only():
    for name, text, _ in DOCSTRINGS:
        assert not re.search(r'^    \w+ \([\w\[\], .|]+\): ', text, re.MULTILINE), name
