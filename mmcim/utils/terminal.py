# Copyright (c) mmcim contributors. All rights reserved.
"""What is on the screen: lines of progress, warnings, and what mmcim itself reports.

Everything else that libraries log is in the log file alone.
"""

import atexit
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

_PACKAGE = str(Path(__file__).parents[1])
_SECONDS = 0.2  # between two updates of a terminal
_EVERY = 50  # batches between two lines elsewhere

console = Console(highlight=False, soft_wrap=True)
# Without a thread that would hold locks while data loaders fork their workers.
_live = Progress(
    '{task.description}',
    BarColumn(16),
    MofNCompleteColumn(),
    TextColumn('{task.fields[text]}', markup=False, table_column=Column()),
    console=console,
    auto_refresh=False,
    transient=True,
)
atexit.register(_live.live.stop)  # the cursor is hidden meanwhile


def show(text: str) -> None:
    """Print a text above the lines of progress, in the main process."""
    if is_main_process():
        console.print(text, markup=False)


class ScreenHandler(logging.Handler):
    """Shows what mmcim reports, and warnings, but no library's advice to developers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, above the lines of progress."""
        text, is_warning = record.getMessage(), record.levelno >= logging.WARNING
        if is_warning and 'will be deprecated' not in text:
            text = f'{record.levelname.lower()}: {text}'
            console.print(text, style='yellow', markup=False)
        elif not is_warning and record.pathname.startswith(_PACKAGE):
            console.print(text, markup=False)


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
        self.title, self.total = title, total
        self._task, self._next = None, 0.0
        if console.is_terminal and is_main_process():
            self._task = _live.add_task(title, total=total, text='')
            _live.start()

    def update(
        self, step: int, text: Callable[[], str] = str, report: bool = False
    ) -> None:
        """Show how far it is.

        Args:
            step: Steps that are done.
            text: Gives what else is shown.
            report: Whether to write a line where there is no terminal.
        """
        if self._task is not None:
            if time.monotonic() > self._next or step == self.total:
                self._next = time.monotonic() + _SECONDS
                _live.update(self._task, completed=step, text=text(), refresh=True)
        elif report:
            show(f'{self.title} {step}/{self.total}  {text()}'.rstrip())

    def close(self) -> None:
        """Remove the line from a terminal."""
        if self._task is not None:
            _live.remove_task(self._task)
            self._task = None
            if not _live.tasks:
                _live.stop()


def track(items: Iterable, title: str, total: int | None = None) -> Iterator:
    """Iterate with a line of progress.

    Args:
        items: What is iterated over.
        title: What is being done.
        total: Number of items; by default their length.
    """
    line = ProgressLine(title, len(items) if total is None else total)
    try:
        for step, item in enumerate(items, start=1):
            yield item
            line.update(step, report=step % _EVERY == 0 or step == line.total)
    finally:
        line.close()
