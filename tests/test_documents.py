# Copyright (c) mmcim contributors. All rights reserved.
"""What README and docs name exists, and the blocks that are marked runnable run."""

import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from mmcim.checkpoints import BackboneFile

from .backbone_files import write_backbone
from .cli.toy_run import environment
from .conftest import is_readable
from .documents import DOCUMENTS, REPO, runnable_blocks

BLOCKS = runnable_blocks()
each_document = pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)


def slug(heading):
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


@each_document
def test_links_lead_somewhere(path):
    for target in re.findall(r'\]\(([^)\s]+)\)', path.read_text()):
        if '://' in target:
            continue
        file, _, anchor = target.partition('#')
        page = path.parent / file if file else path
        assert page.exists(), target
        headings = re.findall(r'^#+ (.+)$', page.read_text(), re.M) if anchor else ()
        assert not anchor or anchor in map(slug, headings), target


@each_document
def test_paths_exist(path):
    """Those that begin with a folder of the repository, in text and in code."""
    made_up = {block.argument for block in BLOCKS}
    names = r'(?<![\w./<>*-])(?:configs|docs|mmcim|tests|tools)/[\w./<>*{},-]*'
    for name in set(re.findall(names, path.read_text())) - made_up:
        if '<' not in name:
            pattern = re.sub(r'\{[^}]*\}', '*', name).rstrip('./,')
            assert any(REPO.glob(pattern)), name


@each_document
def test_python_names_exist(path):
    text = path.read_text()
    names = set(re.findall(r'\bmmcim(?:\.[A-Za-z_]\w*)+', text))
    for module, imported in re.findall(r'from (mmcim[\w.]*) import ([\w, ]+)', text):
        names |= {f'{module}.{name.strip()}' for name in imported.split(',')}
    for name in names:
        pkgutil.resolve_name(name)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A copy of the repository's files with a finished pre-training of ViT-B."""
    folder = tmp_path_factory.mktemp('documents')
    shutil.copytree(REPO / 'configs', folder / 'configs')
    (folder / 'tools').symlink_to(REPO / 'tools')
    (folder / 'images').mkdir()
    Image.new('RGB', (40, 30), 'red').save(folder / 'images/red.png')
    Image.new('RGB', (40, 30), 'green').save(folder / 'image.jpg')
    config = dict(type='VisionTransformer', arch='deit-base', out_type='featmap')
    tensors = MODELS.build(config).state_dict()
    backbone = folder / 'epoch_300_backbone.safetensors'
    write_backbone(backbone, tensors, config, mean=[123.675] * 3, std=[58.395] * 3)
    checkpoint = folder / 'epoch_300.pth'
    record = BackboneFile.read(backbone).record
    record.prefix = 'enhancer.backbone.'
    state = {record.prefix + name: value for name, value in tensors.items()}
    torch.save(dict(state_dict=state, meta=dict(backbone=record.dumps())), checkpoint)
    work_dir = folder / 'work_dirs/cim/vit-b_8xb256-300e'
    work_dir.mkdir(parents=True)
    for path in (backbone, checkpoint):
        (work_dir / path.name).symlink_to(path)
    return folder


def commands(block):
    """The commands of a block, each with the block's argument."""
    lines = block.code.replace('\\\n', ' ').splitlines()
    lines = [line.split(' #')[0].strip() for line in lines]
    for line in lines:
        if line and not line.startswith('#'):
            is_run = block.argument and not line.startswith(('export ', 'cd '))
            yield f'{line} {block.argument}' if is_run else line


@pytest.mark.slow
@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: block.document)
def test_block_runs(block, folder, monkeypatch):
    monkeypatch.chdir(folder)
    if block.language == 'python' and block.argument:
        if not is_readable(Path(block.argument)):
            pytest.skip('mmdetection is missing: .ci/install_det.sh')
        (folder / block.argument).write_text(block.code)
        config = Config.fromfile(block.argument)
        if 'backbone' in config:
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                MODELS.build(config.backbone).init_weights()
    elif block.language == 'python':
        exec(block.code, {})
    else:
        path = f'{sys.exec_prefix}/bin:{environment()["PATH"]}'
        script = '\n'.join(['set -euo pipefail', *commands(block)])
        subprocess.run(
            ['bash', '-c', script], env={**environment(), 'PATH': path}, check=True
        )
