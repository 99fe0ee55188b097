# Copyright (c) mmcim contributors. All rights reserved.
"""One HTML page about runs, which needs no other file and no network."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .curves import draw_curves
from .images import read_galleries
from .runs import SPEED, RunHistory

_PAGE = 4_700_000  # characters, without tables
_LONGEST_TEXT = 300  # characters of a value
_OFTEN = 10  # events of a kind, of which more are counted, not listed
_TITLES = dict(
    loss='loss', images_per_s='images/s', time='s per iteration', data_wait='data wait',
    data_time='s per iteration for data', memory='memory, MiB',
)  # fmt: skip
_SECTIONS = ('Training', 'Evaluation', 'Optimisation', 'Speed and memory')
# Title, values of the runs, whether they differ.
Row = tuple[str, list[Any], bool]


def render_page(runs: Sequence[RunHistory]) -> str:
    """Write the page.

    Args:
        runs: In the order of their colours.
    """
    templates = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    templates.loader = FileSystemLoader(Path(__file__).parent)
    templates.filters['text'] = _text
    curves = draw_curves(runs)
    evaluations = sorted({name for run in runs for name in run.evaluations})
    sections = dict.fromkeys(curves['plots'], 'Training')
    sections |= {n: 'Optimisation' for n in sections if n.endswith('lr') or 'norm' in n}
    sections |= dict.fromkeys(SPEED & sections.keys(), 'Speed and memory')
    sections |= dict.fromkeys(evaluations, 'Evaluation')
    room = max(500_000, _PAGE - len(''.join(curves['scripts'])))
    return templates.get_template('page.html').render(
        runs=runs,
        summary=_summarise(runs, evaluations),
        settings=_compare([run.settings for run in runs]),
        versions=_compare([run.versions for run in runs]),
        results=_compare([run.results for run in runs]),
        curves=curves,
        sections={s: [n for n in sections if sections[n] == s] for s in _SECTIONS},
        galleries=read_galleries(runs, room),
        events={run.name: [*_shorten(run.events)] for run in runs if run.events},
    )


def _summarise(runs: Sequence[RunHistory], evaluations: Sequence[str]) -> list[Row]:
    """How each run went, in numbers."""
    ends = [max((max(p) for p in run.scalars.values()), default=None) for run in runs]
    rows: dict[str, list] = {'status': [run.status for run in runs], 'iterations': ends}
    for name, title in _TITLES.items():
        rows[title] = [run.last(name) for run in runs]
    for name in evaluations:
        if name.startswith('held_out/'):  # often neither high nor low is best
            rows[f'last {name}'] = [run.last(name) for run in runs]
        else:
            rows[f'best {name}'] = [_best(run, name) for run in runs]
    return [(t, cells, False) for t, cells in rows.items() if set(cells) != {None}]


def _best(run: RunHistory, name: str) -> str | None:
    """The best value of a metric, and where; losses are best when they are low."""
    points = {i: v for i, v in run.scalars.get(name, {}).items() if v == v}  # no NaN
    step = (min if 'loss' in name else max)(points, key=points.__getitem__, default=None)
    return None if step is None else f'{_text(points[step])} at {step}'


def _compare(tables: Sequence[dict[str, Any]]) -> list[Row]:
    keys = sorted({key for table in tables for key in table})
    known = [table for table in tables if table]  # a run may have crashed before
    differ = {key for t in known for key in keys if t.get(key) != known[0].get(key)}
    return [(key, [t.get(key) for t in tables], key in differ) for key in keys]


def _shorten(events: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], int]]:
    """Leave out what happens often but for its first and last, which has their number."""
    kinds = [str(event.get('event')) for event in events]
    total, seen = Counter(kinds), Counter[str]()
    for kind, event in zip(kinds, events):
        seen[kind] += 1
        often, is_last = total[kind] > _OFTEN, seen[kind] == total[kind]
        if not often or is_last or seen[kind] == 1:
            yield event, total[kind] - 2 if often and is_last else 0


def _text(value: Any) -> str:
    """Format a value for a person."""
    if isinstance(value, dict):
        return ', '.join(f'{key} {_text(v)}' for key, v in value.items())
    text = f'{value:.5g}' if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_TEXT else f'{text[:_LONGEST_TEXT]}…'
