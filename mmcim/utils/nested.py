# Copyright (c) mmcim contributors. All rights reserved.
"""Nested dicts and lists, such as configs, records and checkpoints."""

from collections.abc import Iterator
from typing import Any


def walk(node: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Go through a nested container and all that is in it.

    Args:
        node: A dict, list or tuple, or a value.
        key: Its dotted key.

    Yields:
        Dotted key and what is there, a container before its parts.
    """
    yield key, node
    if isinstance(node, dict | list | tuple):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in items:
            yield from walk(value, f'{key}.{name}' if key else str(name))
