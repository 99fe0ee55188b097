# Copyright (c) mmcim contributors. All rights reserved.
"""Say whether mmcim can run here, what is missing, and the command that fixes it.

Exit code 1 if it cannot run, or if a folder given by --data cannot be trained on.
"""

import argparse
import multiprocessing
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from ..dependencies import check_dependencies

OK, MISSING, BROKEN = 'ok', 'missing', 'BROKEN'
# State, what has been found, and the command that fixes it.
Finding = tuple[str, str, str]
_FILES = (
    (
        'weights/dalle_dvae.safetensors',
        "OpenAI's tokenizer",
        'wget https://cdn.openai.com/dall-e/encoder.pkl '
        'https://cdn.openai.com/dall-e/decoder.pkl && pip install dall-e attrs && '
        'mmcim convert-dalle encoder.pkl decoder.pkl --trust-pickle '
        '--out weights/dalle_dvae.safetensors',
    ),
    ('data/imagenet/train', 'ImageNet', 'ln -s /path/to/imagenet data/imagenet'),
    ('data/ade/ADEChallengeData2016', 'ADE20K', 'ln -s /path/to/ade data/ade'),
)


def run(args: argparse.Namespace) -> None:
    """Print what is found.

    Args:
        args: The command line.

    Raises:
        SystemExit: With code 1 if anything is broken.
    """
    states = set()
    for check in (_system, _packages, _devices, _mmcim, _files, _images):
        for state, text, fix in check(args):
            print(f'{state:8} {text}', flush=True)
            if fix:
                print(f'{"":8} Fix with: {fix}')
            states.add(state)
    if BROKEN in states:
        sys.exit(1)


def _system(args: argparse.Namespace) -> Iterator[Finding]:
    yield OK, f'Python {platform.python_version()}, {platform.platform()}', ''
    if 'fork' not in multiprocessing.get_all_start_methods():
        yield BROKEN, 'this system cannot fork processes', 'use Linux (WSL on Windows)'


def _packages(args: argparse.Namespace) -> Iterator[Finding]:
    """Compare what is installed with what the package asks for."""
    try:
        from packaging.requirements import Requirement

        required = list(map(Requirement, metadata.requires('mmcim') or ()))
    except ImportError as error:  # PackageNotFoundError is one
        fix = 'pip install -c constraints.txt -e .   (in the folder of mmcim)'
        yield MISSING, f'mmcim is not installed: {error}', fix
        return
    found = []
    for package in required:
        extra = re.search(r'extra == .(\w+)', str(package.marker))
        version = _version(package.name)
        text, fix = f'{package.name} {version}', f"pip install '{package.name}"
        if version and package.specifier.contains(version, prereleases=True):
            found += [] if extra else [text]
        elif not extra:
            text = f'{text}, needed: {package.specifier}'
            yield BROKEN, text, f"{fix}{package.specifier}'"
        elif extra[1] not in ('dev', 'docs'):
            yield (
                MISSING,
                f'{package.name} (optional)',
                f"pip install 'mmcim[{extra[1]}]'",
            )
    yield OK, ', '.join(found), ''


def _devices(args: argparse.Namespace) -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # whatever a broken build raises
        fix = 'pip install --force-reinstall torch torchvision   (both from one index)'
        yield BROKEN, f'torch or torchvision cannot be imported: {error!r}', fix
        return
    query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    has_driver = shutil.which('nvidia-smi') is not None
    driver = (
        subprocess.getoutput(shlex.join(query)).split('\n')[0] if has_driver else None
    )
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        name = f'{torch.cuda.get_device_name(index)} (sm_{major}{minor})'
        yield OK, f'GPU {index}: {name}, driver {driver}', ''
    if not torch.cuda.is_available():
        text = f'no GPU; torch is built for CUDA {torch.version.cuda}, driver {driver}'
        fix = 'update the driver, or install a build of torch for it: docs/install.md'
        yield MISSING, text, fix if has_driver else ''


def _mmcim(args: argparse.Namespace) -> Iterator[Finding]:
    """Import all of it in a process of its own."""
    try:
        check_dependencies()
    except ImportError as error:
        yield BROKEN, str(error), ''
        return
    code = 'import mmcim, sys; sys.stdout.write(mmcim.__version__)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    if done.returncode:
        *_, cause = ['', *done.stderr.strip().splitlines()]
        yield BROKEN, f'mmcim cannot be imported: {cause}', 'install what is broken above'
    else:
        yield OK, f'mmcim {done.stdout.splitlines()[-1]}', ''


def _files(args: argparse.Namespace) -> Iterator[Finding]:
    for path, name, fix in _FILES:
        there = os.path.exists(path)
        text = f'{name}: {path}' + ('' if there else f' (below {os.getcwd()})')
        yield OK if there else MISSING, text, '' if there else fix


def _images(args: argparse.Namespace) -> Iterator[Finding]:
    if args.data:
        from ..datasets.check import check_images

        try:
            yield OK, f'{args.data}: all readable, {check_images(args.data)}', ''
        except ValueError as error:
            yield BROKEN, str(error), ''


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
