# Copyright (c) mmcim contributors. All rights reserved.
"""The pages of docs/reference as Markdown, made from the code when the site is built."""

import inspect
import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from functools import cache
from inspect import Parameter
from unittest.mock import patch

import griffe

import mmcim_cli

_ROLE = re.compile(r':(?:attr|class|data|func|meth|mod):`(~?[\w.]+)`')


def classes(*modules: str) -> str:
    """What configs can name of some modules, each with its arguments."""
    return '\n'.join(
        f'::: {found.__module__}.{found.__qualname__}\n'
        f'    options: {{heading: {name}, toc_label: {name}, members: false}}\n\n'
        f'{_inherited(found)}'
        for module in modules
        for name, found in registered().items()
        if f'{found.__module__}.'.startswith(f'{module}.')
    )


@cache
def registered() -> dict:
    """All classes and functions of mmcim that a config can name, by this name."""
    with mmcim_cli.quiet():
        import mmcim  # noqa: F401
        from mmcim.utils.building import _ROOTS
    registries = [r for root in _ROOTS for r in (root, *root.children.values())]
    items = [item for registry in registries for item in registry.module_dict.items()]
    return {name: found for name, found in items if found.__module__[:6] == 'mmcim.'}


def _inherited(builder: type) -> str:
    """The arguments that only parents name."""
    from mmcim.utils.arguments import constructors

    known: set[str] = set()
    lines = []
    for function in constructors(builder):
        parameters = inspect.signature(function).parameters.values()
        new = [
            f'`{p.name}`' if p.default is Parameter.empty else f'`{p.name}={p.default!r}`'
            for p in parameters
            if p.name not in {*known, 'self'} and p.kind is not Parameter.VAR_KEYWORD
        ]
        known |= {p.name for p in parameters}
        if new and function not in (builder, vars(builder).get('__init__')):
            owner = function.__qualname__.partition('.')[0]
            library = function.__module__.partition('.')[0]
            lines.append(f'Arguments of `{library}.{owner}`: {", ".join(new)}.\n\n')
    return ''.join(lines)


def commands() -> str:
    """The help of each command."""
    texts = []
    for name in mmcim_cli.COMMANDS:
        printed = io.StringIO()
        width = patch.dict(os.environ, COLUMNS='90', NO_COLOR='1')
        with suppress(SystemExit), width, redirect_stdout(printed):
            mmcim_cli.parse([name, '--help'])
        texts.append(f'## mmcim {name}\n\n~~~~text\n{printed.getvalue()}~~~~\n')
    return '\n'.join(texts)


class DocstringMarkdown(griffe.Extension):
    """Let docstrings with Sphinx's roles and Google's ``Example`` be read as Markdown."""

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        """Rewrite all docstrings of a package, when all of its names are known."""
        for found in _objects(pkg):
            if found.docstring:
                found.docstring.value = _as_markdown(found, found.docstring.value)


def _as_markdown(found: griffe.Object, text: str) -> str:
    text = re.sub(r'(?m)^Example:$', 'Examples:', text)
    text = re.sub(r'(?m)::$', ':', text)
    if found.is_function and found.returns:
        # What stands before a colon would be taken for the type.
        begin = r'(?m)^(Returns|Yields):\n +'
        text = re.sub(begin, rf'\g<0>{found.returns}: ', text)
    return _ROLE.sub(lambda role: _link(role[1], found), text)


def _objects(parent: griffe.Object) -> Iterator[griffe.Object]:
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _link(name: str, found: griffe.Object) -> str:
    """A link to what a name in a docstring means, where some page describes it."""
    shown = name.rpartition('.')[2] if name[0] == '~' else name
    name = name.lstrip('~')
    meant = registered().get(name)
    path = f'{meant.__module__}.{meant.__qualname__}' if meant else name
    with suppress(griffe.NameResolutionError):
        path = found.resolve(name)
    return f'<autoref optional identifier="{path}"><code>{shown}</code></autoref>'
