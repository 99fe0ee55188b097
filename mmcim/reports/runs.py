# Copyright (c) mmcim contributors. All rights reserved.
"""What a work directory tells of its run.

Everything in it is read as data, nothing is run. What is missing or damaged is left out,
such as the half-written last line of a run that was killed or still trains.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..utils.errors import ConfigError

SPEED = {'time', 'data_time', 'images_per_s', 'data_wait', 'memory'}
_STEPS, _TIMES = {'step', 'iter', 'epoch'}, {'time', 'data_time'}
_OF_RUN = {'resume', 'work_dir', 'load_from'}  # what is no setting
_ENDS = dict(end='finished', interrupted='interrupted', error='failed:')
_LARGEST_RESULT = 100_000  # bytes; other JSON files may be lists of images
Points = dict[int, Any]  # values or files by iteration, which counts from 1


@dataclass
class RunHistory:
    """A run from its beginning, however often it was resumed.

    Attributes:
        name: By which the page distinguishes it.
        settings: Dotted keys of the config, and facts of the run below ``record``.
        versions: Of Python and packages, and what the run was on.
        scalars: Name -> what was logged.
        evaluations: Names of those that were measured beside training.
        images: Name -> files.
        events: As they were written.
        results: Of tests: metric and file -> value.
        changed: When something was last written, in UTC.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    scalars: dict[str, Points] = field(default_factory=dict)
    evaluations: set[str] = field(default_factory=set)
    images: dict[str, Points] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, float] = field(default_factory=dict)
    changed: str = 'unknown'

    @property
    def status(self) -> str:
        """How the last session ended, as far as it is known."""
        for event in reversed(self.events):
            kind = event.get('event')
            if kind in ('start', 'resume'):
                break
            if kind in _ENDS:
                return f'{_ENDS[kind]} {event.get("message", "")}'.strip()
        return f'no end recorded, last entry {self.changed}'

    def last(self, name: str) -> float | None:
        """The latest value of a scalar."""
        points = self.scalars.get(name)
        return points[max(points)] if points else None


def find_runs(folders: Sequence[Path]) -> dict[str, Path]:
    """Find the work directories of runs.

    Args:
        folders: Work directories, or folders with such below them.

    Returns:
        Name -> work directory; a name is the end of the path that no other run has.

    Raises:
        ConfigError: If there is no run in one of them.
    """
    found: list[Path] = []
    for folder in map(Path.resolve, folders):
        if not folder.is_dir():
            raise ConfigError(f'{folder} is not a folder: give a work directory')
        below = {path.parent.parent for path in folder.rglob('vis_data')}
        below |= {path.parent for path in folder.rglob('events.jsonl')}
        if not below:
            raise ConfigError(f'no run (events.jsonl or */vis_data) in {folder}')
        found += [folder] if folder in below else sorted(below)
    names = {}
    for path in (paths := dict.fromkeys(found)):
        ends = [path.parts[-n:] for n in range(1, len(path.parts) + 1)]
        own = next(e for e in ends if sum(p.parts[-len(e) :] == e for p in paths) == 1)
        names[str(Path(*own))] = path
    return names


def read_run(name: str, folder: Path) -> RunHistory:
    """Read a work directory.

    Args:
        name: For the page.
        folder: The work directory.
    """
    events = [*_json_lines(folder / 'events.jsonl')]
    run = RunHistory(name, events=events, results=_read_results(folder))
    starts = [event for event in events if event.get('event') in ('start', 'resume')]
    for event in starts[-1:]:
        record = event.get('record')
        record = {**record} if isinstance(record, dict) else {}
        environment = record.pop('environment', {})
        run.versions = _flat(environment) | _flat(event.get('versions', {}))
        settings = _flat(event.get('settings', {}))
        facts = {f'record.{k}': v for k, v in _flat(record).items() if k not in settings}
        run.settings = {k: v for k, v in (settings | facts).items() if k not in _OF_RUN}
    resumed = [event['iter'] for event in starts if isinstance(event.get('iter'), int)]
    sessions = sorted(folder.glob('*/vis_data'))  # timestamps
    for session in sessions:
        _add_session(run, session, resumed)
    files = [folder / 'events.jsonl', *(path / 'scalars.json' for path in sessions)]
    if seconds := [path.stat().st_mtime for path in files if path.is_file()]:
        changed = datetime.fromtimestamp(max(seconds), timezone.utc)
        run.changed = f'{changed:%Y-%m-%d %H:%M} UTC'
    return run


def _add_session(run: RunHistory, folder: Path, resumed: Sequence[int]) -> None:
    """Add what one process has logged, in place of what it has repeated."""
    lines = [
        line
        for line in _json_lines(folder / 'scalars.json')
        if isinstance(line.get('step'), int) and isinstance(line.get('iter', 0), int)
    ]
    trained, last = [line for line in lines if 'iter' in line], 0
    if trained:
        first = trained[0]['iter']
        last = max((i for i in resumed if i < first), default=first - 1)
        for points in [*run.scalars.values(), *run.images.values()]:
            for iteration in [i for i in points if i > last]:
                del points[iteration]
    of_training = {name for line in trained for name in line} - SPEED
    for line in lines:
        numbers = {k: float(line[k]) for k in line.keys() - _STEPS if _is_number(line[k])}
        iteration = last = line.get('iter', last)
        if 'iter' not in line:
            # mmengine counts validations by the epoch, or all as 0, and gives their time;
            # they are later than the training lines above.
            is_exact = line['step'] and 'time' not in line
            iteration = line['step'] if is_exact else max(line['step'], last)
            names = numbers.keys() - _TIMES
            numbers = {f'val/{k}' if k in of_training else k: numbers[k] for k in names}
            run.evaluations |= numbers.keys() - SPEED
        for name, value in numbers.items():
            run.scalars.setdefault(name, {})[iteration] = value
    for path in sorted((folder / 'vis_image').glob('*_*.png')):
        name, _, step = path.stem.rpartition('_')
        if step.isdecimal():
            run.images.setdefault(name, {})[int(step)] = path


def _read_results(folder: Path) -> dict[str, float]:
    """Read the metrics of tests: JSON files of numbers alone."""
    found: dict[str, float] = {}
    for path in sorted([*folder.glob('*.json'), *folder.glob('*/*.json')]):
        with suppress(OSError, ValueError):  # a broken link, no JSON, no UTF-8
            is_small = path.stat().st_size <= _LARGEST_RESULT
            metrics = json.loads(path.read_text('utf-8')) if is_small else None
            if isinstance(metrics, dict) and all(map(_is_number, metrics.values())):
                # mmengine's own files are named by the time of the test.
                is_dated = path.stem == path.parent.name
                source = 'last test' if is_dated else path.relative_to(folder)
                names = metrics.keys() - _TIMES
                found |= {f'{name} ({source})': metrics[name] for name in names}
    return found


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    text = path.read_text('utf-8', 'replace') if path.is_file() else ''
    for line in text.split('\n'):
        with suppress(ValueError):
            if isinstance(value := json.loads(line), dict):
                yield value


def _flat(node: Any, name: str = '') -> dict[str, Any]:
    """Dotted names -> values; lists are values unless they contain others."""
    if isinstance(node, list) and any(isinstance(n, dict | list) for n in node):
        node = dict(enumerate(node))
    if not isinstance(node, dict) or not node:
        return {name: node} if name else {}
    items = [(f'{name}.{key}' if name else str(key), node[key]) for key in node]
    return {k: v for key, value in items for k, v in _flat(value, key).items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
