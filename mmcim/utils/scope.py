# Copyright (c) mmcim contributors. All rights reserved.
"""Configs that inherit from ``mmcim::``."""

from typing import Any


def drop_scope(part: Any) -> None:
    """Take the scope 'mmcim' out of a config, in place.

    mmengine notes in all that comes from a base ``mmcim::...`` that it is to be built in
    that scope. mmcim registers in those of others, and the config's ``default_scope``
    says in which.

    Args:
        part: The config, or a part of it.
    """
    part = getattr(part, '_cfg_dict', part)
    if isinstance(part, dict):
        if part.get('_scope_') == 'mmcim':
            del part['_scope_']
        part = list(part.values())
    for value in part if isinstance(part, list | tuple) else ():
        drop_scope(value)
