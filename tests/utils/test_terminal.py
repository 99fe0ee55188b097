# Copyright (c) mmcim contributors. All rights reserved.
import logging
import os
import re

import pytest

from mmcim.utils import terminal


def test_a_terminal_shows_one_line_until_it_is_closed(screen):
    shown = screen(True)
    line = terminal.ProgressLine('Training CIM', 400)
    line.update(20, lambda: 'loss 0.5')
    assert shown().count('\n') == 0
    *_, last = shown().split('\r')
    assert 'Training CIM 20/400  loss 0.5' in last
    terminal.show('a text above')
    *above, last = shown().split('\n')
    assert 'a text above' in above[-1] and '20/400' in last
    line.close()
    assert '\x1b[2K' in shown().split('loss 0.5')[-1]  # erased
    assert '\x1b[?25h' in shown()  # the cursor is back


def test_a_narrow_terminal_shows_what_is_first(screen):
    """In one line, with room for the ^C that ends it."""
    shown = screen(True, width=62)
    line = terminal.ProgressLine('Training CIM', 400)
    line.update(20, lambda: 'loss 0.5  ETA 1:00:00  ' + 'loss_pix 0.25  ' * 9)
    *_, last = shown().split('\r')
    assert '\n' not in shown()
    assert last.endswith('Training CIM 20/400  loss 0.5  ETA 1:00:00')
    assert len(re.sub(r'\x1b\[[\d;?]*\w', '', last)) < 60
    line.close()


def test_a_pipe_gets_lines_at_reports(screen):
    shown = screen(False)
    line = terminal.ProgressLine('Training CIM', 40, every=20)
    for step in range(1, 41):
        line.update(step, lambda: 'loss 0.5')
    line.close()
    assert shown() == 'Training CIM 20/40  loss 0.5\nTraining CIM 40/40  loss 0.5\n'


def test_iterating_with_progress(screen):
    shown = screen(False)
    assert list(terminal.track(range(120), 'Features')) == list(range(120))
    assert shown() == 'Features 50/120\nFeatures 100/120\nFeatures 120/120\n'


def test_a_line_may_be_closed_after_all_were_removed(screen):
    """As by a generator that outlives an error."""
    screen(False)
    line = terminal.ProgressLine('Training CIM', 400)
    terminal.remove_lines()
    line.close()


@pytest.fixture
def logger(screen):
    shown = screen(False)
    logger = logging.Logger('a run')
    logger.addHandler(logging.StreamHandler())
    terminal.show_on_screen(logger)
    return logger, shown


def from_file(path):
    """Code that logs, as if it were in a file."""
    code = 'def log(logger, level, text): logger.log(level, text)'
    scope = {}
    exec(compile(code, path, 'exec'), scope)
    return scope['log']


def test_reports_of_mmcim_and_warnings_of_all_are_shown(logger):
    logger, shown = logger
    ours, other = from_file(terminal.__file__), from_file('/lib/mmengine/runner.py')
    ours(logger, logging.INFO, 'all of the backbone [28 of 28]')
    other(logger, logging.INFO, 'the environment')
    other(logger, logging.WARNING, 'this is odd')
    other(logger, logging.WARNING, 'X will be deprecated in future')
    assert shown() == 'all of the backbone [28 of 28]\nwarning: this is odd\n'


def test_names_that_are_not_utf8_are_shown_escaped(screen):
    shown = screen(False)
    terminal.show('Cannot read ' + os.fsdecode(b'a/\xff.png'))
    assert shown() == 'Cannot read a/\\udcff.png\n'
