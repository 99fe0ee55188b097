# Copyright (c) mmcim contributors. All rights reserved.
"""What is on the screen: lines of progress, warnings, and what mmcim itself reports.

Everything else that libraries log is in the log file alone.
"""

import atexit
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

_PACKAGE = str(Path(__file__).parents[1])
_SECONDS = 0.2  # between two updates of a terminal
_FOR_DEVELOPERS = ('will be deprecated', 'since its requires_grad=False')
_EVERY = 50  # batches between two lines elsewhere


@cache
def live() -> Progress:
    """The lines of progress; their ``console`` prints above them.

    They have no thread that would hold locks while data loaders fork their workers. It is
    made late, since stdout is redirected while this module is imported.
    """
    progress = Progress(
        '{task.description}',
        BarColumn(16),
        MofNCompleteColumn(),
        TextColumn('{task.fields[text]}', markup=False, table_column=Column()),
        console=Console(highlight=False, emoji=False, soft_wrap=True),
        auto_refresh=False,
        transient=True,
    )
    atexit.register(progress.live.stop)  # the cursor is hidden meanwhile
    return progress


def show(text: str, style: str | None = None) -> None:
    """Print a text above the lines of progress."""
    live().console.print(text, style=style, markup=False)


class ScreenHandler(logging.Handler):
    """Shows what mmcim reports, and warnings, but no library's advice to developers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, above the lines of progress."""
        text, is_warning = record.getMessage(), record.levelno >= logging.WARNING
        if is_warning and not any(words in text for words in _FOR_DEVELOPERS):
            show(f'{record.levelname.lower()}: {text}', style='yellow')
        elif not is_warning and record.pathname.startswith(_PACKAGE):
            show(text)


def show_on_screen(logger: logging.Logger) -> None:
    """Put a :class:`ScreenHandler` in the place of a logger's stream handlers."""
    for place, old in enumerate(logger.handlers):
        if type(old) is logging.StreamHandler:
            logger.handlers[place] = new = ScreenHandler(old.level)
            new.filters = old.filters


class ProgressLine:
    """A line that is updated in a terminal, and written now and then elsewhere.

    Args:
        title: What is being done.
        total: Number of steps.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self._next = title, total, 0.0
        self._task = live().add_task(title, total=total, text='')
        if live().console.is_terminal and is_main_process():
            live().start()

    def update(
        self, step: int, text: Callable[[], str] = str, report: bool = False
    ) -> None:
        """Show how far it is.

        Args:
            step: Steps that are done.
            text: Gives what else is shown.
            report: Whether to write a line where there is no terminal.
        """
        if live().live.is_started:
            if time.monotonic() > self._next or step == self.total:
                self._next = time.monotonic() + _SECONDS
                live().update(self._task, completed=step, text=text(), refresh=True)
        elif report and is_main_process():
            show(f'{self.title} {step}/{self.total}  {text()}'.rstrip())

    def close(self) -> None:
        """Remove the line from a terminal."""
        if self._task in live().task_ids:
            live().remove_task(self._task)
        if not live().tasks:
            live().live.stop()


def remove_lines() -> None:
    """Remove all lines of progress, whatever has become of what they show."""
    for task in live().task_ids:
        live().remove_task(task)
    live().live.stop()


def track(items: Iterable, title: str, total: int | None = None) -> Iterator:
    """Iterate with a line of progress.

    Args:
        items: What is iterated over.
        title: What is being done.
        total: Number of items; by default their length.
    """
    line = ProgressLine(title, len(items) if total is None else total)  # type: ignore[arg-type]
    try:
        for step, item in enumerate(items, start=1):
            yield item
            line.update(step, report=step % _EVERY == 0 or step == line.total)
    finally:
        line.close()
