# Copyright (c) mmcim contributors. All rights reserved.
"""The documentation as a website: it builds without a warning, and has all settings."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import mmengine.registry
import mmpretrain.registry
import mmseg.registry
import pytest
from mmengine.registry import Registry

import mmcim  # noqa: F401
from mmcim.utils.arguments import keyword_arguments
from mmcim.utils.building import HOOK_NAMES, TOP_LEVEL

from ..cli.toy_run import environment

REPO = Path(__file__).resolve().parents[2]
REGISTRIES = [
    registry
    for library in (mmengine, mmpretrain, mmseg)
    for registry in vars(library.registry).values()
    if isinstance(registry, Registry)
]
REFERENCE = ('methods', 'data', 'training')
needs_mkdocs = pytest.mark.skipif(
    not find_spec('mkdocstrings'), reason="mkdocs is missing: pip install -e '.[docs]'"
)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', folder]
    done = subprocess.run(
        command, cwd=REPO, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def page(site, name):
    return (site / name / 'index.html').read_text()


def arguments(builder):
    for name, parameter in keyword_arguments(builder).items():
        if name != 'self' and parameter.kind is not parameter.VAR_KEYWORD:
            yield name


@needs_mkdocs
@pytest.mark.slow
def test_sections_and_home_page(site):
    home = page(site, '.')
    tabs = re.findall(r'md-tabs__link">\s*(.+?)\s*</a>', home)
    assert tabs == [
        'Start', 'Your images', 'Methods', 'Training', 'Transfer', 'Understanding',
        'Reference', 'Project',
    ]  # fmt: skip
    assert 'Corrupted Image Modeling' in home and '<!-- runnable' not in home
    assert 'href="install/"' in home and 'src="images/quickstart.png"' in home


@needs_mkdocs
@pytest.mark.slow
def test_links_to_the_repository_lead_to_pages(site):
    assert 'href="../source/mmcim/engine/runner.py/"' in page(site, 'code')
    assert '<span class="nc">StrictRunner' in page(site, 'source/mmcim/engine/runner.py')
    assert 'href="ablations/"' in page(site, 'source/configs/cim')


@needs_mkdocs
@pytest.mark.slow
def test_every_registered_class_has_its_arguments(site):
    text = ''.join(page(site, f'reference/{name}') for name in REFERENCE)
    _, *parts = re.split(r'<h3 id="(mmcim[\w.]+)"', text)
    sections = dict(zip(parts[::2], parts[1::2]))
    assert len(parts) == 2 * len(sections) > 100
    for registry in REGISTRIES:
        for found in registry.module_dict.values():
            if found.__module__.startswith('mmcim.'):
                section = sections[f'{found.__module__}.{found.__qualname__}']
                shown = {*re.findall(r'\w+', re.sub('<.+?>', '', section))}
                assert {*arguments(found)} <= shown, found


@needs_mkdocs
@pytest.mark.slow
def test_functions_and_commands_are_described(site):
    api = page(site, 'reference/api')
    for name in ('apis.load_backbone', 'datasets.read_image', 'checkpoints.load_into'):
        assert f'id="mmcim.{name}"' in api
    assert 'id="mmcim.models.tokenizers.BaseTokenizer.encode"' in api
    assert '--auto-scale-lr' in page(site, 'reference/commands')
    for name in ('api', *REFERENCE):
        assert not re.search(r':(class|func|meth):', page(site, f'reference/{name}'))


@needs_mkdocs
@pytest.mark.slow
def test_settings_can_be_searched(site):
    entries = json.loads((site / 'search/search_index.json').read_text())['docs']
    found = [e['location'] for e in entries if 'activation_checkpointing' in e['text']]
    assert any(place.startswith('reference/settings/') for place in found)
    assert not any(e['location'].startswith('source/') for e in entries)


def test_settings_are_those_that_are_read():
    text = (REPO / 'docs/reference/settings.md').read_text()
    cells = ' '.join(re.findall(r'^\| (`.+?) \|', text, re.MULTILINE))
    keys = {key.split('.')[0] for key in re.findall(r'`([\w.]+)`', cells)}
    assert keys == {*TOP_LEVEL} - {'self', 'cfg'}
    assert {*HOOK_NAMES} <= {*re.findall(r'`(\w+)`', text)}


def test_every_page_has_its_place():
    pages = {path.relative_to(REPO / 'docs') for path in REPO.glob('docs/**/*.md')}
    listed = re.findall(r'[\w/-]+\.md', (REPO / 'mkdocs.yml').read_text())
    assert {path.as_posix() for path in pages} <= {*listed}, 'add it to nav in mkdocs.yml'
