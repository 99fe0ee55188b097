# Copyright (c) mmcim contributors. All rights reserved.
"""What happens to a training, as lines of ``events.jsonl`` in its work directory."""

import json
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..utils.errors import ConfigError
from ..utils.files import append_line
from ..utils.terminal import is_warning

EVENTS = 'events.jsonl'


class EventsHook(Hook):
    """Write an event a line, each when it happens; :class:`StrictRunner` adds the hook.

    A line is a JSON object with ``time`` (ISO 8601, UTC), ``iter`` (how many are done)
    and ``event``:

    - ``start`` and ``resume``, with ``settings`` (the config), ``record`` (see
      :func:`mmcim.engine.run_record.describe_run`) and ``versions``;
    - ``warning`` and ``skipped_image``, with ``message``: what the log has of that kind;
    - ``checkpoint``, with ``path``; ``validation``, with ``metrics``;
    - ``end``, or ``interrupted`` or ``error``, with ``message``.

    Whoever logs with ``extra=dict(event=NAME, ...)`` adds an event of that name, as the
    online probe does. The main process writes; skipped images come from all.

    Args:
        runner: The run.
    """

    priority = 'VERY_HIGH'

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._done = 0
        self._is_interrupted = False

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Note what is logged while this runs, and how it ends."""
        path = Path(self._runner.work_dir, EVENTS)
        cut = path.is_file() and not path.read_bytes().endswith(b'\n')  # by a crash
        if cut and not self._runner.rank:
            append_line(path, '')
        logger = self._runner.logger
        logger.addFilter(self.note)  # a filter sees all that is logged
        try:
            yield
            self.write('end')
        except BaseException as error:
            is_signal = isinstance(error, SystemExit | KeyboardInterrupt)
            message = f'{type(error).__name__}: {error}'
            with suppress(ConfigError):  # the disk may be full, which is not the cause
                if not self._is_interrupted:
                    self.write('interrupted' if is_signal else 'error', message=message)
            raise
        finally:
            logger.removeFilter(self.note)

    def before_train(self, runner: Runner) -> None:
        """Describe what starts."""
        self._done = runner.iter
        gpu = torch.cuda.is_available()
        versions = dict(
            python=platform.python_version(),
            system=platform.platform(),
            device=torch.cuda.get_device_name() if gpu else platform.processor() or 'cpu',
        )
        settings = runner.cfg.to_dict()
        event = 'resume' if runner._resume else 'start'
        self.write(event, settings=settings, record=runner.record, versions=versions)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Count, before what other hooks do after an iteration."""
        self._done = runner.iter + 1

    def after_save_checkpoint(self, runner: Runner, path: str) -> None:
        """Note a checkpoint."""
        self.write('checkpoint', path=path)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Note a validation."""
        self.write('validation', metrics=metrics)

    def write(self, event: str, **what: Any) -> None:
        """Append a line.

        Args:
            event: What happens.
            **what: More about it; what JSON cannot hold is written as text.
        """
        if self._runner.rank and event != 'skipped_image':
            return
        self._is_interrupted |= event == 'interrupted'
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        line = dict(time=now, iter=self._done, event=event, **what)
        if event == 'skipped_image':
            del line['iter']  # loader workers do not know it
        # Processes and workers of data loaders write to the same file.
        path = Path(self._runner.work_dir, EVENTS)
        append_line(path, json.dumps(line, default=_plain))

    def note(self, record: logging.LogRecord) -> bool:
        """Turn warnings, and records with an event, into events, and let all pass."""
        event = getattr(record, 'event', None)
        if event or is_warning(record):
            metrics = getattr(record, 'metrics', None)
            message = dict(message=record.getMessage())
            what = dict(metrics=metrics) if metrics else message
            with suppress(ConfigError):  # a full disk: the next checkpoint ends the run
                self.write(event or 'warning', **what)
        return True


def _plain(value: Any) -> Any:
    """What JSON holds of a number or array of numpy or torch; of others a text."""
    return value.tolist() if hasattr(value, 'tolist') else str(value)
