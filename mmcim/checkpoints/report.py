# Copyright (c) mmcim contributors. All rights reserved.
"""What has arrived, for people to read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby


@dataclass
class LoadReport:
    """What of a checkpoint is in a module now.

    Attributes:
        checkpoint: The file.
        prefix: What the names of the backbone's tensors begin with in the file.
        total: Number of tensors of the backbone that a checkpoint has to have; all of
            them were loaded.
        resized: Those of the backbone that were interpolated, with the number of
            positions before and after, which another shape may not change.
        new: Tensors of the backbone that only fine-tuning has; they keep their
            initialisation.
        missing: Tensors of heads and necks, and counters, that the file does not have in
            this shape; they keep their initialisation.
        unused: Tensors of the file under the prefix that the backbone does not have, and
            the other parts of the file, as ``generator.*``.
    """

    checkpoint: str
    prefix: str
    total: int = 0
    resized: dict[str, tuple[int, int]] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One sentence for the log."""
        parts = {
            'resized': group({k: f'{a} -> {b}' for k, (a, b) in self.resized.items()}),
            'new in this network': enumerate_names(self.new),
            'missing': enumerate_names(self.missing),
            'unused': enumerate_names(self.unused) or 'none',
        }
        text = f'Backbone weights: {self.total} of {self.total} tensors matched from '
        text += f'{self.checkpoint}, prefix {self.prefix or "none"}'
        text += ''.join(f'; {what}: {names}' for what, names in parts.items() if names)
        return text + '.'


def group(names: Mapping[str, str]) -> str:
    """List name -> text, names with the same text together."""
    groups: dict[str, list[str]] = {}
    for name, text in names.items():
        groups.setdefault(text, []).append(name)
    return '; '.join(f'{enumerate_names(found)} {text}' for text, found in groups.items())


def enumerate_names(names: Iterable[str]) -> str:
    """List names; those that differ in a number only, together.

    Example:
        >>> enumerate_names(['layers.0.ln1.bias', 'layers.1.ln1.bias', 'ln1.bias'])
        'layers.0-1.ln1.bias, ln1.bias'
    """
    numbers: dict[str, list[int]] = {}
    for name in names:
        number = re.search(r'(?<=\.)\d+(?=\.)', name)
        general = name.replace(f'.{number[0]}.', '.{}.', 1) if number else name
        numbers.setdefault(general, []).extend([int(number[0])] if number else [])
    return ', '.join(name.format(_ranges(found)) for name, found in numbers.items())


def _ranges(numbers: list[int]) -> str:
    """Write numbers like '0-5,7'."""
    # Where numbers rise by one, their difference to the position is the same.
    runs = groupby(enumerate(sorted(numbers)), lambda item: item[1] - item[0])
    ranges = [[number for _, number in run] for _, run in runs]
    return ','.join(f'{r[0]}-{r[-1]}' if len(r) > 1 else f'{r[0]}' for r in ranges)
