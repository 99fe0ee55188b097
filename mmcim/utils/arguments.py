# Copyright (c) mmcim contributors. All rights reserved.
"""The named arguments of a class, with those that its parents get from ``**kwargs``."""

import inspect
from collections.abc import Callable
from inspect import Parameter


def keyword_arguments(builder: Callable) -> dict[str, Parameter]:
    """Collect the arguments of a class or function by name.

    Args:
        builder: A class, function or partial.

    Returns:
        The parameters of all :func:`constructors`, the most derived ones first; also
        ``self`` and what collects the others.
    """
    found: dict[str, Parameter] = {}
    for function in constructors(builder):
        found = {**inspect.signature(function).parameters, **found}
    return found


def constructors(builder: Callable) -> list[Callable]:
    """List the constructors that may see a keyword argument of a class.

    They are those along its MRO up to the first without ``**kwargs``. A function is its
    own constructor.
    """
    if not inspect.isclass(builder):
        return [builder]
    found = []
    for cls in builder.__mro__[:-1]:
        if '__init__' in vars(cls):
            found.append(cls.__init__)  # type: ignore[misc]
            if not takes_any_keyword(found[-1]):
                break
    return found


def takes_any_keyword(builder: Callable) -> bool:
    """Say whether a class or function has ``**kwargs``."""
    parameters = inspect.signature(builder).parameters.values()
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)
