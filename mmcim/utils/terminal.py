# Copyright (c) mmcim contributors. All rights reserved.
"""What is on the screen: lines of progress, warnings, and what mmcim itself reports.

Everything else that libraries log is in the log file alone.
"""

import atexit
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from mmengine.dist import is_main_process
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_PACKAGE = str(Path(__file__).parents[1])
_SECONDS = 0.2  # between two updates of a terminal
_FOR_DEVELOPERS = ('will be deprecated', 'since its requires_grad=False')
_EVERY = 50  # steps between two lines elsewhere
_BAR = 16


@cache
def live() -> Progress:
    """The lines of progress; their ``console`` prints above them.

    They have no thread that would hold locks while data loaders fork their workers. It is
    made late, since stdout is redirected while this module is imported.
    """
    progress = Progress(
        BarColumn(_BAR),
        TextColumn('{task.description}', markup=False),
        console=Console(highlight=False, emoji=False, soft_wrap=True),
        auto_refresh=False,
        transient=True,
    )
    atexit.register(progress.live.stop)  # the cursor is hidden meanwhile
    return progress


def show(text: str, style: str | None = None) -> None:
    """Print a text above the lines of progress."""
    # Names of files need not be UTF-8, which a terminal would refuse.
    text = text.encode(errors='backslashreplace').decode()
    live().console.print(text, style=style, markup=False)


def is_warning(record: logging.LogRecord) -> bool:
    """Whether it warns a user, and is no library's advice to developers."""
    is_advice = any(words in record.getMessage() for words in _FOR_DEVELOPERS)
    return record.levelno >= logging.WARNING and not is_advice


class ScreenHandler(logging.Handler):
    """Shows what mmcim reports, and warnings, but no library's advice to developers."""

    stream = sys.stderr  # mmengine's MLflow backend looks whether it is open

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, above the lines of progress."""
        text = record.getMessage()
        if is_warning(record):
            show(f'{record.levelname.lower()}: {text}', style='yellow')
        elif record.levelno < logging.WARNING and record.pathname.startswith(_PACKAGE):
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
        every: Steps between two lines where there is no terminal.
    """

    def __init__(self, title: str, total: int, every: int = _EVERY) -> None:
        self.title, self.total, self.every, self._next = title, total, every, 0.0
        self._progress = live()
        self._task = self._progress.add_task(title, total=total)
        if self._progress.console.is_terminal and is_main_process():
            self._progress.start()

    def update(self, step: int, text: Callable[[], str] = str) -> None:
        """Show how far it is.

        Args:
            step: Steps that are done.
            text: Gives what else is shown, the most important first: a terminal shows as
                much as fits into one line.
        """
        progress, now = self._progress, time.monotonic()
        in_terminal = progress.live.is_started
        is_due = now > self._next if in_terminal else step % self.every == 0
        if not (is_due or step == self.total):
            return
        line = f'{self.title} {step}/{self.total}  {text()}'.rstrip()
        if in_terminal:
            self._next = now + _SECONDS
            # A terminal writes ^C behind it, which must not begin another line.
            line = line[: max(0, progress.console.width - _BAR - len(' ^C '))]
            progress.update(self._task, completed=step, description=line, refresh=True)
        elif is_main_process():
            show(line)

    def close(self) -> None:
        """Remove the line from a terminal."""
        self._progress.remove_task(self._task)
        if not self._progress.tasks:
            self._progress.live.stop()


def remove_lines() -> None:
    """Remove all lines of progress, whatever has become of what they show."""
    live().live.stop()
    live.cache_clear()


def track(items: Iterable, title: str) -> Iterator:
    """Iterate with a line of progress.

    Args:
        items: What is iterated over; has a length.
        title: What is being done.
    """
    total = len(items)  # type: ignore[arg-type]
    line = ProgressLine(title, total, max(_EVERY, total // 20))
    try:
        for step, item in enumerate(items, start=1):
            yield item
            line.update(step)
    finally:
        line.close()
