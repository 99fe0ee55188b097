# Copyright (c) mmcim contributors. All rights reserved.
"""Golden files: JSON with readable diffs."""

import json
import math
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
STEPS, FEATURES, RECIPES = (
    FOLDER / f'{name}.json' for name in ('training_steps', 'features', 'config_recipes')
)
_NUMBERS = re.compile(r'\[[-+.\deE,\s]+\]')


def read(path: Path) -> dict[str, Any]:
    """Read a golden file."""
    return json.loads(path.read_text())


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a golden file: sorted keys, a line per value or list of numbers."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    path.write_text(_NUMBERS.sub(_in_one_line, text) + '\n')


def _in_one_line(numbers: re.Match) -> str:
    return f'[{" ".join(numbers[0][1:-1].split())}]'


def rounded(value: float, digits: int = 10) -> float:
    """Round to significant digits."""
    return float(f'{value:.{digits}g}')


def differences(
    found: Any, stored: Any, rel: float, small: float = 0.0, at: str = ''
) -> list[str]:
    """List where two JSON contents differ.

    Args:
        found (Any): The content to check.
        stored (Any): The expected content.
        rel (float): Relative tolerance of numbers.
        small (float): Numbers below count as zero. Defaults to 0.
        at (str): Path of the content, for messages. Defaults to ''.

    Returns:
        list[str]: ``path: stored -> found`` for each difference.
    """
    if isinstance(found, dict) and isinstance(stored, dict):
        pairs = {
            key: (found.get(key, 'nothing'), stored.get(key, 'nothing'))
            for key in sorted({*found, *stored})
        }
    elif isinstance(found, list) and isinstance(stored, list):
        if len(found) != len(stored):
            return [f'{at}: {stored} -> {found}']
        pairs = dict(enumerate(zip(found, stored, strict=True)))
    else:
        same = _equal(found, stored, rel, small)
        return [] if same else [f'{at}: {stored} -> {found}']
    return [
        difference
        for key, pair in pairs.items()
        for difference in differences(*pair, rel, small, f'{at}/{key}'.lstrip('/'))
    ]


def _equal(found: Any, stored: Any, rel: float, small: float) -> bool:
    if not (isinstance(found, int | float) and isinstance(stored, int | float)):
        return found == stored
    if abs(stored) < small:
        return abs(found) < small
    return math.isclose(found, stored, rel_tol=rel)
