# Copyright (c) mmcim contributors. All rights reserved.
"""The command ``mmcim``: what can be typed, and how a command ends.

What the commands do is in :mod:`mmcim.cli`, one module each, whose docstring is the help.
Importing torch and mmpretrain takes seconds, so only the standard library is imported
here until a command line has been understood.
"""

import argparse
import ast
import errno
import io
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

Add = Callable[..., argparse.Action]  # ArgumentParser.add_argument
_Parser = partial(
    argparse.ArgumentParser, formatter_class=argparse.RawDescriptionHelpFormatter
)
# They use little of mmcim; the first two have to work where torch is missing.
LIGHT = ('configs', 'doctor', 'quickstart', 'report')
_IMAGE = ('.png', '.jpg', '.jpeg', '.webp')


def tool(command: str) -> None:
    """Carry out the command of a file in ``tools/``."""
    main([command, *sys.argv[1:]], prog=sys.argv[0])


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> None:
    """Carry out a command line.

    Args:
        argv: The command and its arguments; those of the process by default.
        prog: What the command is called in its messages.

    Raises:
        SystemExit: After an error; see :func:`guard`.
    """
    guard(lambda: run(parse(sys.argv[1:] if argv is None else argv, prog)))


def run(args: argparse.Namespace) -> Any:
    """Carry out a command.

    Args:
        args: From :func:`parse`.
    """
    with quiet():
        if args.command in LIGHT and 'mmcim' not in sys.modules:
            # Packages without their __init__, which imports everything.
            for name in ('mmcim', 'mmcim.utils')[: 1 + (args.command == 'report')]:
                sys.modules[name] = module_from_spec(find_spec(name))  # type: ignore[arg-type]
        module = import_module(f'mmcim.cli.{args.command.replace("-", "_")}')
    # About their own defaults; what matters they log.
    warnings.filterwarnings('ignore', module=r'mm(cv|engine|pretrain|seg)\.')
    return module.run(args)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries complain about when they are imported off the screen."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        yield


def guard(call: Callable[[], object]) -> None:
    """Call a function so that no traceback is on the screen, whatever happens.

    Interrupted (Ctrl-C, SIGTERM, SIGUSR1) it unwinds, so that no half-written file
    remains; a training saves a checkpoint before. A process of torchrun ends with it.

    Raises:
        SystemExit: With code 2 if the user can fix it, 1 for any other error, whose
            traceback is in a file, and 128 + n after signal n, as 130 after Ctrl-C.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        end_with_parent()
    try:
        call()
        distributed = sys.modules.get('torch.distributed')
        if distributed and distributed.is_initialized():
            distributed.destroy_process_group()
    except Exception as error:
        sys.exit(_print_error(error))


def end_with_parent() -> None:
    """Let this process, and all that it starts, end with the process that started it."""
    if os.getpid() != os.getpgrp():
        os.setsid()  # with its own workers it is stopped as a whole
    threading.Thread(target=_end_after, args=[os.getppid()], daemon=True).start()


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGTERM)  # orderly, so that no file is half-written
    time.sleep(30)
    os.killpg(0, signal.SIGKILL)


def _print_error(error: Exception) -> int:
    """Print an error in one line; its exit code."""
    code, text = getattr(error, 'exit_code', 1), str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        code, text = 2, f'{text}: make room, and run the same again'
    if 'in DataLoader worker process' in text:  # the traceback, and then the message
        last = text.strip().splitlines()[-1]
        text = last.partition('Error: ')[2] or last
    path = _keep_traceback(code)
    if code == 1:
        text = f'{type(error).__name__}: {text}\nThe traceback is in {path}'
    if isinstance(error, ImportError):
        text += '\nSee what is missing, and how to fix it, with: mmcim doctor'
    # torchrun reports the error of another process at the end.
    torchrun, rank = 'TORCHELASTIC_ERROR_FILE' in os.environ, os.environ.get('RANK', '0')
    if code == 1 or rank == '0' or not torchrun:
        print(f'error: {text}', file=sys.stderr)
    if torchrun:
        from torch.distributed.elastic.multiprocessing import errors

        # The report of torchrun comes last; let it end with the message.
        error.__cause__ = None
        errors.get_error_handler().record_exception(error.with_traceback(None))
    return code


def _keep_traceback(code: int) -> str:
    """Write the traceback to the log of the run, or that of a 1 to a file; its path."""
    library = sys.modules.get('mmengine.logging')
    log = library and library.MMLogger.get_current_instance().log_file
    path = log or (tempfile.mkstemp('.log', 'mmcim_')[1] if code == 1 else os.devnull)
    with suppress(OSError), open(path, 'a') as file:  # the disk may be full
        traceback.print_exc(file=file)
    return path


def parse(argv: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Read a command line; positional arguments may follow options.

    Args:
        argv: The command and its arguments.
        prog: What the command is called in its messages, ``mmcim COMMAND`` by default.
    """
    name, *rest = argv or ['--help']
    if name not in COMMANDS:
        titles = [f'\n  {other:15}{_help(other).splitlines()[0]}' for other in COMMANDS]
        text = 'Corrupted Image Modeling; see mmcim COMMAND --help.\n'
        parser = _Parser(prog='mmcim', description=text + ''.join(titles))
        parser.add_argument('COMMAND', choices=COMMANDS, metavar='COMMAND')
        parser.parse_args([name])  # prints, and exits
    parser = _Parser(prog=prog or f'mmcim {name}', description=_help(name))
    parser.set_defaults(command=name)
    COMMANDS[name](parser.add_argument)
    return parser.parse_intermixed_args(rest)


def _help(command: str) -> str:
    """The docstring of a command's module, which is not imported for it."""
    path = Path(__file__).with_name('mmcim') / f'cli/{command.replace("-", "_")}.py'
    return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''


def _train(add: Add) -> None:
    help_ = 'resume from it; without FILE from the latest one in the work directory'
    add('--resume', nargs='?', const='auto', metavar='FILE', help=help_)
    _flags(
        add,
        override="resume with the config's settings where the checkpoint's differ",
        amp='mixed precision for a config that has none, where the device has it',
        no_validate='do not evaluate during training',
        auto_scale_lr='scale the learning rate to the effective batch',
    )
    _run_options(add)


def _test(add: Add) -> None:
    _run_options(add)
    add('checkpoint', nargs='?', help='of this model; by default the weights of init_cfg')
    add('--out', type=_file('.json', '.pkl'), help='file for metrics or predictions')
    add('--show-dir', help='folder for images of the predictions')
    _flags(add, tta="test-time augmentation by the config's tta_pipeline")


def _quickstart(add: Add) -> None:
    folder = Path('work_dirs/quickstart')
    add('--work-dir', type=Path, default=folder, help='for all runs; %(default)s')
    _flags(add, resume='after an interruption')
    _cfg_options(add)


def _pretrain(add: Add) -> None:
    add('images', metavar='DIR', help='folder of images, <class>/* or without classes')
    help_ = 'cim_respix (default), cim_revdet, beit, conmim, corrim, mae, mocov3, simmim'
    add('--method', default='cim_respix', help=help_)
    add('--arch', choices=['vit', 'resnet'], default='vit')
    add('--img-size', type=_positive, metavar='PX', help='side of the images')
    add('--budget', default='30min', metavar='TIME', help='such as 90s, 30min or 8h')
    add('--epochs', type=float, help='passes over the images, in place of a budget')
    help_ = 'public weights to start from: a file, or the name of a timm model'
    add('--from', dest='weights', metavar='WEIGHTS', help=help_)
    help_ = 'weights of a tokenizer; by default one is trained first'
    add('--tokenizer', metavar='FILE', help=help_)
    add('--out', default='work_dirs/images', help='folder for the runs; %(default)s')
    measure = "normalise by these images' mean and std in place of ImageNet's"
    _flags(add, measure=measure, resume='after an interruption')


def _export(add: Add) -> None:
    add('checkpoint', type=Path, help='.pth or _backbone.safetensors')
    add('--to', choices=['timm', 'hf'], required=True, help='library')
    add('--out', type=Path, required=True, help='file or folder to write')
    help_ = 'resize position embeddings for images of this size'
    add('--img-size', type=_positive, nargs=2, metavar=('H', 'W'), help=help_)


def _convert_dalle(add: Add) -> None:
    add('encoder', type=Path, help='encoder.pkl or dalle_encoder.pth')
    add('decoder', type=Path, help='decoder.pkl')
    add('--out', type=_file('.safetensors'), required=True, help='file to write')
    trust = 'unpickle modules, which runs whatever code the files contain'
    _flags(add, trust_pickle=trust, force='replace the output')


def _pack(add: Add) -> None:
    add('folder', help='of images, in folders or not')
    add('out', type=_file('.lmdb'), help='file to write or replace')


def _show(add: Add) -> None:
    add('config', help='config file of a pre-training')
    add('checkpoint', nargs='?', help='its checkpoint; random weights if omitted')
    help_ = 'a CIM-RevDet that looks at the same corrupted images as this CIM'
    add('--detector', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help=help_)
    add('--out', type=_file(*_IMAGE), default='images.png', help='image to write')
    add('--num', type=_positive, default=8, help='number of images')
    add('--seed', type=int, default=0, help='of all that is drawn')
    _cfg_options(add)


def _see(add: Add) -> None:
    add('what', choices=['attention', 'pca', 'neighbours', 'tsne', 'codes'])
    add('file', metavar='FILE', help='backbone or tokenizer')
    add('images', nargs='+', metavar='IMAGES', help='files or folders')
    add('--out', type=_file(*_IMAGE), default='see.png', help='image to write')
    add('--num', type=_positive, help='number of images')
    add('--img-size', type=_positive, metavar='PX', help='side of the resized images')
    add('--layer', type=int, help='of attention, from 0; negative ones from the last')
    add('-k', type=_positive, help='number of neighbours or codes')


def _embed(add: Add) -> None:
    add('folder', metavar='DIR', help='of images, in folders or not')
    add('--backbone', metavar='FILE', required=True, help='exported, or a checkpoint')
    add('--out', type=_file('.npz'), required=True, help='file to write or replace')
    add('--batch-size', type=_positive, default=64, help='images at a time (64)')
    workers = min(16, len(os.sched_getaffinity(0)))
    help_ = 'processes that read images; one per CPU, at most 16, by default'
    add('--num-workers', type=int, default=workers, metavar='N', help=help_)
    help_ = "side of the resized images; the backbone's own by default"
    add('--img-size', type=_positive, metavar='PX', help=help_)
    add('--device', help='such as cuda:1 or cpu; the GPU by default, if there is one')


def _benchmark(add: Add) -> None:
    add('configs', nargs='+', metavar='CONFIG', help='what to train')
    add('--steps', type=_positive, default=100, help='steps to time (100)')
    add('--warmup', type=int, default=10, help='steps before them (10)')
    add('--batch-size', type=_positive, help="in place of the config's")
    add('--against', choices=['stock'], help="compare with mmpretrain's parts")
    _flags(
        add,
        loader='measure the data loader alone',
        sync_check='count waits for a GPU, on any device',
    )
    add('--data-root', metavar='DIR', help='images, which are noise without it')
    _cfg_options(add)


def _report(add: Add) -> None:
    add('work_dirs', nargs='+', type=Path, metavar='WORK_DIR', help='of runs, or above')
    add('--out', type=_file('.html'), default='report.html', help='page to write')


def _configs(add: Add) -> None:
    add('words', nargs='*', metavar='WORD', help='to search for, in path or description')


def _doctor(add: Add) -> None:
    add('--data', type=Path, help='folder of images to look through')


def _run_options(add: Add) -> None:
    add('config', help='config file')
    add('--pretrained', metavar='FILE', help="the backbone's weights")
    add('--work-dir', help='for logs and checkpoints; work_dirs/CONFIG by default')
    add('--launcher', choices=['none', 'pytorch', 'slurm'], default='none')
    _cfg_options(add)


def _cfg_options(add: Add) -> None:
    add(
        '--cfg-options',
        nargs='+',
        action='extend',
        type=_option,
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config, e.g. optim_wrapper.optimizer.lr=1e-4 or '
        'key="[a,(b,c)]". Commas make a list and spaces are removed: set a value that '
        'contains either of them in a config file',
    )


def _flags(add: Add, **helps: str) -> None:
    for name, text in helps.items():
        add(f'--{name.replace("_", "-")}', action='store_true', help=text)


def _option(text: str) -> tuple[str, Any]:
    """Read an option as mmengine's ``DictAction`` does, with argparse's short errors."""
    from mmengine.config import DictAction

    try:
        key, value = text.split('=', maxsplit=1)
        return key, DictAction._parse_iterable(value)
    except (ValueError, AssertionError) as error:
        raise ArgumentTypeError(f'expected KEY=VALUE, got {text!r} ({error})') from error


def _file(*suffixes: str) -> Callable[[str], Path]:
    """Make an argument type: a file with one of these extensions."""

    def read(text: str) -> Path:
        if not text.lower().endswith(suffixes):
            raise ArgumentTypeError(f'must end with {" or ".join(suffixes)}, got {text}')
        return Path(text)

    return read


def _positive(text: str) -> int:
    """Read a number."""
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f'must be at least 1, got {text}')
    return int(text)


_ALL = (
    _pretrain, _train, _test, _quickstart, _export, _convert_dalle, _pack, _show, _see,
    _embed, _report, _benchmark, _configs, _doctor,
)  # fmt: skip
COMMANDS = {add.__name__[1:].replace('_', '-'): add for add in _ALL}

if __name__ == '__main__':
    main()
