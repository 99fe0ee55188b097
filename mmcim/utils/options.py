# Copyright (c) mmcim contributors. All rights reserved.
"""How the tools read ``--cfg-options KEY=VALUE ...``."""

import argparse
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction

_QUOTES = ('"', "'")
_BRACKETS = {'[]': list, '()': tuple}


class ConfigOptions(DictAction):
    """mmengine's ``DictAction`` that keeps the spaces within a value.

    mmengine removes them all, which turns the folder ``my pics`` into ``mypics``.

    ============  ==================  ================================
    written       read                what
    ============  ==================  ================================
    ``k=1e-3``    ``0.001``           number, true, false, None
    ``k=a b``     ``'a b'``           other text
    ``k=1, b``    ``[1, 'b']``        commas make a list
    ``k=[(1,)]``  ``[(1,)]``          so do brackets; they nest
    ``k='a, b'``  ``'a, b'``          quotes keep commas, and go
    ============  ==================  ================================

    The shell has its own quotes: ``"k='a, b'"``.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Add the options to those read before."""
        options = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not (key and equals):
                parser.error(
                    f'{option_string}: {text!r} is no KEY=VALUE; a value with spaces '
                    'needs quotes: "KEY=a b"'
                )
            try:
                options[key] = parse_value(value)
            except ValueError as error:
                parser.error(f'{option_string}: {key}: {error}')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """Read a value as in the table of :class:`ConfigOptions`.

    Raises:
        ValueError: If the brackets around a comma do not match.
    """
    text = text.strip()
    parts = _split(text)
    if len(parts) > 1:
        return [parse_value(part) for part in parts if part.strip()]
    if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
        text = text[1:-1]
    kind = _BRACKETS.get(text[:1] + text[-1:])
    if kind is None:
        return DictAction._parse_int_float_bool(text)
    return kind(parse_value(part) for part in _split(text[1:-1]) if part.strip())


def _split(text: str) -> list[str]:
    """Split at the commas that are in neither brackets nor quotes."""
    parts, depth, quote = [''], 0, ''
    for char in text:
        if char == ',' and not (depth or quote):
            parts.append('')
            continue
        if quote:
            quote = '' if char == quote else quote
        elif char in _QUOTES and not parts[-1].strip():  # elsewhere it is an apostrophe
            quote = char
        else:
            depth += (char in '[(') - (char in ')]')
        parts[-1] += char
    if ',' in text and (depth or quote):
        raise ValueError(f'brackets or quotes do not match in {text!r}')
    return parts
