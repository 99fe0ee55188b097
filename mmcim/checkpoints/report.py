# Copyright (c) mmcim contributors. All rights reserved.
"""What has arrived, for people to read."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What of a checkpoint is in a module now.

    Attributes:
        checkpoint: The file.
        backbone: Class of the backbone.
        prefix: What the names of the backbone's tensors begin with in the file.
        matched: Tensors that were loaded, by the module's names.
        total: Number of tensors of the backbone that a checkpoint has to have; all of
            them were loaded.
        resized: Those of the backbone that were interpolated, with the number of
            positions before and after, which another shape may not change.
        converted: What else was done to relative position bias tables.
        new: Tensors of the backbone that only fine-tuning has; they keep their
            initialisation.
        missing: Tensors of heads and necks, and counters, that the file does not have in
            this shape; they keep their initialisation.
        unused: Tensors of the file under the prefix that the backbone does not have.
        elsewhere: Number of the file's other unused tensors by the first part of their
            names.
        problems: Name -> why nothing was loaded.
    """

    checkpoint: str
    backbone: str
    prefix: str
    matched: list[str] = field(default_factory=list)
    total: int = 0
    resized: dict[str, tuple[int, int]] = field(default_factory=dict)
    converted: str = ''
    new: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One paragraph for the log."""
        sizes = {name: f'{a} -> {b}' for name, (a, b) in self.resized.items()}
        how = [f'{len(sizes)} resized: {group(sizes)}'] if sizes else []
        how += [self.converted] if self.converted else []
        text = f'Backbone weights: {self.total} of {self.total} tensors matched'
        text += f' ({"; ".join(how)})' if how else ''
        text += f' from {self.checkpoint}, '
        text += f'prefix {self.prefix}' if self.prefix else 'no prefix'
        others = len(self.matched) - self.total
        counts = ', '.join(f'{k} {n}' for k, n in self.elsewhere.items())
        parts = {
            'also loaded': f'{others} of other parts' if others else '',
            'new in this network': enumerate_names(self.new),
            'missing': enumerate_names(self.missing),
            'unused': enumerate_names(self.unused) or 'none',
            'elsewhere in the file': counts,
        }
        text += ''.join(f'; {what}: {names}' for what, names in parts.items() if names)
        return text + '.'

    def error(self) -> str:
        """What does not fit, and what to do."""
        fits = self.total - len(self.problems.keys() - {*self.unused})
        kind = 'has more than the' if fits == self.total else 'does not have all'
        return (
            f'checkpoint {self.checkpoint} {kind} weights of a {self.backbone}: '
            f'{fits} of {self.total} tensors match, with prefix {self.prefix!r}. '
            f'{group(self.problems)}. Set type, arch, patch_size, ... of the module as '
            "in the checkpoint's training, or select another backbone with prefix"
        )


def group(names: Mapping[str, str]) -> str:
    """List name -> text, names with the same text together."""
    groups: dict[str, list[str]] = {}
    for name, text in names.items():
        groups.setdefault(text, []).append(name)
    return '; '.join(f'{enumerate_names(found)} {text}' for text, found in groups.items())


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
