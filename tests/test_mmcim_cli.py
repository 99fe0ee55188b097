# Copyright (c) mmcim contributors. All rights reserved.
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import mmcim_cli
from mmcim.utils import ConfigError

from .conftest import REPO

# Prints which of some packages a command line has imported.
IMPORTED = """
import sys, mmcim_cli
try:
    mmcim_cli.main(sys.argv[1:])
finally:
    slow = {'torch', 'mmengine', 'mmcv', 'mmpretrain', 'mmcim', 'numpy', 'rich'}
    print('imported:', sorted(slow & set(sys.modules)))
"""


# Those that do the same as a command.
TOOLS = [
    file for file in REPO.glob('tools/**/*.py') if '``mmcim ' in file.read_text()[:140]
]


def process(*arguments, code=IMPORTED):
    return subprocess.run(
        [sys.executable, '-c', code, *arguments],
        env={**os.environ, 'PYTHONPATH': str(REPO)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('command', ['', *mmcim_cli.COMMANDS])
def test_help_imports_nothing_slow(command):
    done = process(*[command] * bool(command), '--help')
    assert done.returncode == 0 and done.stderr == ''
    assert done.stdout.endswith('imported: []\n')
    assert done.stdout.startswith(f'usage: mmcim {command}'.rstrip())
    if command:
        # The docstring of what it does.
        doc = (REPO / f'mmcim/cli/{command.replace("-", "_")}.py').read_text()
        first = doc.split('"""')[1].splitlines()[0]
        assert first in done.stdout


def test_list_of_configs_needs_no_torch():
    done = process('configs', 'camvid')
    assert done.returncode == 0, done.stderr
    assert "imported: ['mmcim', 'rich']" in done.stdout


@pytest.mark.parametrize('tool', TOOLS)
def test_tools_are_called_by_their_own_names(tool):
    done = subprocess.run(
        [sys.executable, tool, '--help'],
        env={**os.environ, 'PYTHONPATH': str(REPO)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert tool.name in done.stdout.splitlines()[0]


def test_arguments_may_follow_options():
    args = mmcim_cli.parse(['show', 'a.py', '--out', 'b.png', 'c.pth'])
    assert (args.config, args.out.name, args.checkpoint) == ('a.py', 'b.png', 'c.pth')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['test', 'a.py', '--out', 'b.txt'], 'must end with .json or .pkl, got b.txt'),
        (['show', 'a.py', '--out', 'b.xyz'], '.jpeg or .webp, got b.xyz'),
        (['show', 'a.py', '--num', '0'], 'must be at least 1, got 0'),
        (['shwo'], "invalid choice: 'shwo'"),
    ],
)
def test_bad_arguments_are_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        mmcim_cli.main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def read(*arguments):
    return dict(mmcim_cli.parse(['train', 'a.py', *arguments]).cfg_options)


def test_cfg_options():
    assert read() == {}
    assert read('--cfg-options', 'a.b=1e-3', 'c=[x,(1,true)]', 'd=e=f', 'g=') == {
        'a.b': 1e-3,
        'c': ['x', (1, True)],
        'd': 'e=f',
        'g': '',
    }
    assert read('--cfg-options', 'a=1', '--cfg-options', 'b=None') == dict(a=1, b=None)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ['data_root=/x/my', 'images'],
            "expected KEY=VALUE, got 'images'",
        ),
        (['betas=[0.9,0.95'], 'Imbalanced brackets exist in [0.9,0.95'),
    ],
)
def test_bad_cfg_options_are_one_line(capsys, options, message):
    with pytest.raises(SystemExit) as error:
        read('--cfg-options', *options)
    assert error.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert 'error: argument --cfg-options: ' in last and message in last


@pytest.fixture
def guarded(monkeypatch, capsys):
    """How a command ends that raises an error: its exit code and what it prints."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}

    def end(error):
        def command():
            raise error

        with pytest.raises(SystemExit) as exit_:
            mmcim_cli.guard(command)
        return exit_.value.code, capsys.readouterr().err

    yield end
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_the_user_can_fix_is_one_line(guarded):
    assert guarded(ConfigError('so and so')) == (2, 'error: so and so\n')


def test_full_disk_is_one_line(guarded):
    code, printed = guarded(OSError(errno.ENOSPC, 'No space left', 'scalars.json'))
    assert code == 2
    assert printed.startswith(
        "error: [Errno 28] No space left: 'scalars.json': make room"
    )


def test_torchrun_reports_what_other_processes_raise(guarded, monkeypatch, tmp_path):
    monkeypatch.setenv('RANK', '1')
    assert guarded(ConfigError('so and so')) == (2, 'error: so and so\n')
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', str(tmp_path / 'error.json'))
    assert guarded(ConfigError('so and so')) == (2, '')
    error, where = guarded(RuntimeError('only here'))[1].splitlines()
    assert error == 'error: RuntimeError: only here'
    Path(where.removeprefix('The traceback is in ')).unlink()


def test_traceback_of_an_unexpected_error_is_in_a_file(guarded):
    code, printed = guarded(RuntimeError('broken'))
    assert code == 1
    error, where = printed.splitlines()
    assert error == 'error: RuntimeError: broken'
    path = Path(where.removeprefix('The traceback is in '))
    assert 'in command\n    raise error\nRuntimeError: broken' in path.read_text()
    path.unlink()


def test_traceback_of_a_wrong_config_is_in_the_log(guarded, monkeypatch, tmp_path):
    log = tmp_path / 'run.log'
    library = SimpleNamespace(MMLogger=SimpleNamespace())
    library.MMLogger.get_current_instance = lambda: SimpleNamespace(log_file=str(log))
    monkeypatch.setitem(sys.modules, 'mmengine.logging', library)
    assert guarded(ConfigError('so and so')) == (2, 'error: so and so\n')
    assert 'in command\n    raise error\n' in log.read_text()


def test_missing_package_is_a_case_for_the_doctor(guarded):
    code, printed = guarded(ModuleNotFoundError("No module named 'torch'"))
    assert code == 1
    error, where, advice = printed.splitlines()
    assert error == "error: ModuleNotFoundError: No module named 'torch'"
    assert advice.endswith('with: mmcim doctor')
    Path(where.removeprefix('The traceback is in ')).unlink()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signal_ends_a_command_without_a_word(number):
    code = f"""
import os, mmcim_cli
mmcim_cli.guard(lambda: os.kill(os.getpid(), {int(number)}))
"""
    done = process(code=code)
    assert done.returncode == 128 + number and done.stderr == ''
