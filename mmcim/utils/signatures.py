# Copyright (c) mmcim contributors. All rights reserved.
"""Which keyword arguments a class really takes, behind its ``**kwargs``."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import cache


@cache
def accepted_arguments(builder: Callable) -> frozenset[str] | None:
    """The keyword arguments that a class or function takes.

    ``**kwargs`` of a constructor are followed to the parent classes as far as they are
    passed to a parent's ``__init__``. Where nothing reads them, they accept nothing.

    Args:
        builder (Callable): A class, function or partial.

    Returns:
        frozenset[str] | None: The names, or None if ``**kwargs`` go somewhere else, so
        that the names cannot be known.
    """
    if not inspect.isclass(builder):
        parameters = inspect.signature(builder).parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            return None
        return frozenset(p.name for p in parameters)
    names: set[str] = set()
    for cls in builder.__mro__:
        init = vars(cls).get('__init__')
        if init is None or cls is object:
            continue
        try:
            parameters = inspect.signature(init).parameters.values()
        except (TypeError, ValueError):
            return None
        named = (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        names |= {p.name for p in parameters if p.kind in named}
        rest = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        if rest is None:
            break
        use = _use_of_kwargs(init, rest)
        if use is None:
            return None
        read, forwarded = use
        names |= read
        if not forwarded:
            break
    return frozenset(names - {'self'})


def _use_of_kwargs(init: Callable, rest: str) -> tuple[set[str], bool] | None:
    """Read from the source what a constructor does with its ``**rest``.

    Returns:
        tuple[set[str], bool] | None: The names that it looks up itself, and whether it
        passes the rest to a parent's ``__init__``. None if it does something else.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(init)))
    except (OSError, TypeError, SyntaxError):
        return None
    read: set[str] = set()
    forwarded = False
    for parents in _loads(tree, rest):
        parent, above = parents[-1], parents[-2]
        if isinstance(parent, ast.keyword) and parent.arg is None:
            if not (isinstance(above, ast.Call) and _is_init(above.func)):
                return None
            forwarded = True
        elif isinstance(parent, ast.Dict) and _reassigns(above, rest):
            read |= _constants(parent.keys)
        elif isinstance(parent, ast.Subscript):
            read |= _constants([parent.slice])
        elif isinstance(parent, ast.Compare):
            read |= _constants([parent.left])
        elif isinstance(parent, ast.Attribute) and parent.attr in (
            'get',
            'pop',
            'setdefault',
        ):
            read |= _constants(above.args[:1])
        else:
            return None
    return read, forwarded


def _loads(tree: ast.AST, name: str) -> Iterator[list[ast.AST]]:
    """Find each place where a name is read, as the nodes around it."""

    def visit(node: ast.AST, parents: list[ast.AST]) -> Iterator:
        if isinstance(node, ast.Name) and node.id == name:
            if isinstance(node.ctx, ast.Load):
                yield parents
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, [*parents, node])

    return visit(tree, [])


def _is_init(func: ast.AST) -> bool:
    return isinstance(func, ast.Attribute) and func.attr == '__init__'


def _reassigns(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id == name for target in node.targets
    )


def _constants(nodes: list[ast.AST | None]) -> set[str]:
    return {n.value for n in nodes if isinstance(n, ast.Constant)}
