# Copyright (c) mmcim contributors. All rights reserved.
"""One HTML page about runs, which needs no other file and no network."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from .curves import draw_curves
from .images import read_galleries
from .runs import SPEED, RunHistory

_LONGEST_CELL = 300  # characters
_OFTEN = 10  # events of a kind, of which more are counted, not listed
_FACTS = {'time', 'iter', 'event', 'settings', 'record', 'versions'}


class Row(NamedTuple):
    """A row of a table with one column per run; what differs is marked."""

    title: str
    cells: list[str]
    differs: bool = False


def render_page(runs: Sequence[RunHistory]) -> str:
    """Write the page.

    Args:
        runs: In the order of their colours.
    """
    curves = draw_curves(runs)
    settings = _compare([run.settings for run in runs])
    loader = PackageLoader('mmcim', 'reports')
    pages = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return pages.get_template('page.html').render(
        runs=runs,
        summary=_summarise(runs),
        settings=settings,
        differences=[row for row in settings if row.differs],
        versions=_compare([run.versions for run in runs]),
        results=_compare([run.results for run in runs]),
        curves=curves,
        groups=_group(runs, curves.plots),
        galleries=read_galleries(runs),
        events=[(run.name, _list_events(run)) for run in runs if run.events],
    )


def _summarise(runs: Sequence[RunHistory]) -> list[Row]:
    """How each run went, in numbers."""
    rows = [Row('status', [run.status for run in runs])]
    ends = [max((max(p) for p in run.scalars.values()), default=None) for run in runs]
    rows.append(Row('iterations', [_text(end) for end in ends]))
    titles = dict(
        loss='loss', images_per_s='images/s', time='seconds per iteration',
        data_wait='data wait', data_time='seconds of it for data', memory='memory, MiB',
    )  # fmt: skip
    rows += [
        Row(title, [_text(run.last(n)) for run in runs]) for n, title in titles.items()
    ]
    for name in sorted({name for run in runs for name in run.evaluations}):
        rows.append(Row(f'best {name}', [_best(run, name) for run in runs]))
    return [row for row in rows if any(cell != '–' for cell in row.cells)]


def _best(run: RunHistory, name: str) -> str:
    """The best value of a metric, and where; losses are best when they are low."""
    points = {i: v for i, v in run.scalars.get(name, {}).items() if v == v}
    if not points:
        return '–'
    step = (min if 'loss' in name else max)(points, key=points.__getitem__)
    return f'{_text(points[step])} at {step}'


def _group(runs: Sequence[RunHistory], plots: dict[str, str]) -> dict[str, list[str]]:
    """Title -> names of plots."""
    evaluations = {name for run in runs for name in run.evaluations}
    titles = ('Training', 'Evaluation', 'Optimisation', 'Speed and memory')
    groups: dict[str, list[str]] = {title: [] for title in titles}
    for name in plots:
        is_optimisation = name.endswith(('lr', 'momentum')) or 'grad_norm' in name
        title = (
            'Evaluation' if name in evaluations
            else 'Speed and memory' if name in SPEED
            else 'Optimisation' if is_optimisation
            else 'Training'
        )  # fmt: skip
        groups[title].append(name)
    return {title: names for title, names in groups.items() if names}


def _compare(tables: Sequence[dict[str, Any]]) -> list[Row]:
    rows = []
    for key in sorted({key for table in tables for key in table}):
        values = [table.get(key, '–') for table in tables]
        differs = any(value != values[0] for value in values)
        rows.append(Row(key, [_text(value) for value in values], differs))
    return rows


def _list_events(run: RunHistory) -> list[dict[str, str]]:
    """Rows of a table; of what happens often the first and the last."""
    kinds = [str(event.get('event')) for event in run.events]
    total, seen, rows = Counter(kinds), Counter[str](), []
    for kind, event in zip(kinds, run.events):
        seen[kind] += 1
        left_out = total[kind] - 2 if total[kind] > _OFTEN else 0
        if left_out and 1 < seen[kind] < total[kind]:
            continue
        facts = {k: v for k, v in event.items() if k not in _FACTS}
        texts = [
            _text(v) if k == 'message' else f'{k}: {_text(v)}' for k, v in facts.items()
        ]
        if left_out and seen[kind] > 1:
            texts.append(f'({left_out} more of its kind before)')
        time = str(event.get('time', '')).replace('T', ' ')[:19]
        detail = ', '.join(texts)
        rows.append(
            dict(time=time, iter=_text(event.get('iter')), kind=kind, detail=detail)
        )
    return rows


def _text(value: Any) -> str:
    """Format a value for a cell."""
    if isinstance(value, dict):
        return ', '.join(f'{key} {_text(v)}' for key, v in value.items())
    if isinstance(value, float):
        return f'{value:.5g}'
    text = '–' if value is None else str(value)
    return text if len(text) <= _LONGEST_CELL else f'{text[:_LONGEST_CELL]}…'
