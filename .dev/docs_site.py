# Copyright (c) mmcim contributors. All rights reserved.
"""A hook of mkdocs: pages from files outside of docs/, and what pages are made of.

The home page is README.md. What a page links to in the repository becomes a page, too,
so that the site is complete without the repository. ``<!-- classes: MODULE ... -->`` and
``<!-- commands -->`` in a page stand for what :mod:`docs_reference` makes of the code.
"""

import ast
import os
import re
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / '.dev'))
import docs_reference  # noqa: E402

PAGES = {
    'index.md': 'README.md',
    'changelog.md': 'CHANGELOG.md',
    'contributing.md': 'CONTRIBUTING.md',
}
# Its text, if that is a page's path, and where it leads; not to other sites.
_LINK = re.compile(r'(?:(?<=\[)[\w/-]+\.md)?\]\((?!\w+:|#)([^)\s#]+)')
_MARK = re.compile(r'^ *<!-- (\w+)(?:: (.+?))? -->\n', re.MULTILINE)
# What mentions everything: the last to be found.
_LAST = ('changelog.md', 'code.md')
_FENCE = '~~~~~~~~'


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages whose text is outside of docs/."""
    for page, name in PAGES.items():
        text = (REPO / name).read_text(encoding='utf-8')
        files.append(File.generated(config, page, content=text))
    linked = set()
    for file in files.documentation_pages():
        linked |= {*map(_target(file), _LINK.findall(file.content_string))}
    for path in sorted({*linked, *chain(*map(_below, linked))}):
        if path.exists() and _page_of(path).startswith('source/'):
            files.append(File.generated(config, _page_of(path), content=_source(path)))


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Put in what comments stand for, drop the others, and let links lead to pages."""
    if page.file.src_uri.startswith('source/'):
        return markdown
    if page.file.src_uri in _LAST:
        page.meta['search'] = dict(boost=0.1)
    find, folder = _target(page.file), os.path.dirname(page.file.src_uri)

    def relative(link: re.Match) -> str:
        path = find(link[1])
        text = '' if link[0][0] == ']' else _heading(path)
        return f'{text}]({os.path.relpath(_page_of(path), folder)}'

    def expanded(mark: re.Match) -> str:
        make = getattr(docs_reference, mark[1], None)
        return make(*(mark[2] or '').split()) if make else ''

    return _MARK.sub(expanded, _LINK.sub(relative, markdown))


def _heading(path: Path) -> str:
    """The title of a page."""
    return path.read_text(encoding='utf-8').split('\n')[0].lstrip('# ')


def _target(file: File) -> Callable[[str], Path]:
    """Where the links of a page lead to."""
    folder = (REPO / PAGES.get(file.src_uri, f'docs/{file.src_uri}')).parent
    return lambda link: Path(os.path.normpath(folder / link))


def _page_of(path: Path) -> str:
    """The page, or the image, that shows a file of the repository."""
    name = path.relative_to(REPO).as_posix()
    pages = {text: page for page, text in PAGES.items()}
    if name.startswith('docs/') or name in pages:
        return pages.get(name, name.removeprefix('docs/'))
    return f'source/{name}/index.md' if path.is_dir() else f'source/{name}.md'


def _below(path: Path) -> list[Path]:
    """The source files and folders in a folder."""
    found = [p for p in path.rglob('*.py') if path.is_dir()]
    return found + [p.parent for p in found]


def _source(path: Path) -> str:
    """A file, or the list of what is in a folder, as a page."""
    name = path.relative_to(REPO).as_posix()
    head = f'---\nsearch: {{exclude: true}}\n---\n# {name}\n\n'
    if path.is_file():
        text = path.read_text(encoding='utf-8')
        bases = re.findall(r"'(\.\.?/[\w./-]+)\.py'", text) if 'configs/' in name else ()
        links = ', '.join(f'[{base}.py]({base}.py.md)' for base in bases)
        head += f'Inherits from {links}.\n\n' * bool(links)
        return f'{head}{_FENCE}{path.suffix[1:]}\n{text}{_FENCE}\n'
    rows = [
        f'| [{p.name}]({p.name}{".md" if p.is_file() else "/index.md"}) | {_title(p)} |'
        for p in sorted(path.iterdir(), key=lambda p: (p.is_file(), p.name))
        if p.suffix == '.py' or p.is_dir() and any(p.rglob('*.py'))
    ]
    return head + '\n'.join(['| file | what it is |', '|---|---|', *rows]) + '\n'


def _title(path: Path) -> str:
    """The first sentence of a file."""
    if path.is_dir():
        return ''
    text = path.read_text(encoding='utf-8')
    comment = re.match(r'# (?!Copyright)(.+)', text)
    found = ast.get_docstring(ast.parse(text)) or (comment[1] if comment else '')
    return found.split('\n')[0].replace('|', r'\|')
