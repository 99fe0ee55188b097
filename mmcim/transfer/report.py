# Copyright (c) mmcim contributors. All rights reserved.
"""What has arrived, for people to read."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What of a checkpoint is in a module now.

    Attributes:
        checkpoint (str): The file.
        prefix (str): What the names of the backbone's tensors begin with in the file.
        matched (list[str]): Tensors that were loaded, by the module's names.
        total (int): Number of tensors of the backbone that a checkpoint has to have;
            all of them were loaded.
        resized (dict[str, tuple[int, int]]): Those that were interpolated, with the
            number of positions before and after, which another shape may not change.
        converted (str): What else was done to relative-position tables.
        new (list[str]): Tensors that only fine-tuning has; they keep their
            initialisation.
        missing (list[str]): Tensors of heads and necks, and counters, that the file
            does not have in this shape; they keep their initialisation.
        unused (list[str]): Tensors of the file under the prefix that the backbone does
            not have.
        elsewhere (dict[str, int]): Number of the file's other unused tensors by the
            first part of their names.
    """

    checkpoint: str
    prefix: str
    matched: list[str]
    total: int
    resized: dict[str, tuple[int, int]] = field(default_factory=dict)
    converted: str = ''
    new: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    elsewhere: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """One paragraph for the log."""
        sizes = {}
        for name, (before, after) in self.resized.items():
            sizes.setdefault(f'{before} -> {after}', []).append(name)
        sizes = [f'{enumerate_names(names)} {size}' for size, names in sizes.items()]
        how = [f'{len(self.resized)} resized: {", ".join(sizes)}'] if sizes else []
        how += [self.converted] if self.converted else []
        text = f'Backbone weights: {self.total} of {self.total} tensors matched'
        text += f' ({"; ".join(how)})' if how else ''
        text += f' from {self.checkpoint}, '
        text += f'prefix {self.prefix}' if self.prefix else 'no prefix'
        others = len(self.matched) - self.total
        if others:
            text += f'; also loaded: {others} of other parts'
        if self.new:
            mean = any('ln2.' in name for name in self.new)
            reason = 'out_type' if mean else 'out_indices'
            text += f'; new, because of {reason}: {enumerate_names(self.new)}'
        if self.missing:
            text += f'; missing: {enumerate_names(self.missing)}'
        text += f'; unused: {enumerate_names(self.unused) if self.unused else "none"}'
        if self.elsewhere:
            counts = ', '.join(f'{k} {n}' for k, n in self.elsewhere.items())
            text += f'; elsewhere in the file: {counts}'
        return text + '.'


def enumerate_names(names: Iterable[str]) -> str:
    """List names; those that differ in a number only, together.

    Examples:
        >>> enumerate_names(['layers.0.ln1.bias', 'layers.1.ln1.bias', 'ln1.bias'])
        'layers.0-1.ln1.bias, ln1.bias'
    """
    numbers: dict[tuple[str, str], list[int]] = {}
    for name in names:
        start, number, end = re.fullmatch(
            r'(.*?)(?:(?<=\.)(\d+)(?=\.)(.*))?', name
        ).groups()
        found = numbers.setdefault((start, end or ''), [])
        found += [int(number)] if number else []
    return ', '.join(
        f'{start}{_ranges(found)}{end}' for (start, end), found in numbers.items()
    )


def _ranges(numbers: list[int]) -> str:
    """Write numbers like '0-5,7'."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ','.join(f'{r[0]}-{r[-1]}' if len(r) > 1 else f'{r[0]}' for r in ranges)
