# Copyright (c) mmcim contributors. All rights reserved.
"""Say whether mmcim can run here, what is missing, and the command that fixes it.

Some configs need what is missing. Exit code 1 if anything is BROKEN, which mmcim cannot
run without, and 2 if a folder given by --data cannot be trained on.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from mmcim_cli import quiet

from ..dependencies import INSTALL_MMDET
from ..version import __version__

OK, OPTIONAL, MISSING, BROKEN = 'ok', 'optional', 'missing', 'BROKEN'
# State, what has been found, and what fixes it if it is not well.
Finding = tuple[str, str, str]
_LINK = 'mkdir -p data; ln -s /path/to/'
_FILES = {
    "OpenAI's tokenizer: weights/dalle_dvae.safetensors": (
        'curl -fLO https://cdn.openai.com/dall-e/encoder.pkl '
        '-fLO https://cdn.openai.com/dall-e/decoder.pkl && pip install dall-e attrs && '
        'mmcim convert-dalle encoder.pkl decoder.pkl --trust-pickle '
        '--out weights/dalle_dvae.safetensors'
    ),
    'ImageNet: data/imagenet/train': f'{_LINK}imagenet data/imagenet',
    'ADE20K: data/ade/ADEChallengeData2016': f'{_LINK}ade data/ade',
    'COCO: data/coco/train2017': f'{_LINK}coco data/coco',
}
_INSTALL = 'pip install -c constraints.txt -e .   (in the folder of mmcim)'
# For cards and drivers that are too old for the newest.
_OLDER_TORCH = 'pip install torch==2.8.0 torchvision==0.23.0  # CUDA 12.8, from Volta on'


def run(args: argparse.Namespace) -> None:
    """Print what is found, up to the first check that finds anything broken.

    Args:
        args: The command line.

    Raises:
        SystemExit: With code 1 if anything is broken.
        ConfigError: If the images of the folder cannot be trained on.
    """
    for check in (_packages, _import, _devices, _files, _images):
        broken = False
        for state, text, fix in check(args):
            print(f'{state:8} {text}', flush=True)
            if fix and state != OK:
                print(f'{"":8} Fix with: {fix}')
            broken |= state == BROKEN
        if broken:
            sys.exit(1)
    print('mmcim runs here; what is optional or missing, only some configs need')


def _packages(args: argparse.Namespace) -> Iterator[Finding]:
    """Compare what is installed with what the package asks for."""
    python = f'Python {platform.python_version()}, {platform.platform()}'
    yield OK, f'mmcim {__version__}, {python}', ''
    try:
        from packaging.requirements import Requirement

        required = list(map(Requirement, metadata.requires('mmcim') or ()))
    except ImportError as error:  # PackageNotFoundError is one
        yield MISSING, f'mmcim is not installed: {error}', _INSTALL
        return
    for package in required:
        extra = re.search(r'extra == .(\w+)', str(package.marker))
        if extra and extra[1] in ('dev', 'docs', 'browser'):
            continue
        name, wanted = package.name, package.specifier
        found = next((d.version for d in metadata.distributions(name=name)), '')
        state = OPTIONAL if extra else BROKEN
        if found and wanted.contains(found, prereleases=True):
            state = OK
        text = f'{name} {found or "not installed"} ({wanted})'
        fix = INSTALL_MMDET if extra and extra[1] == 'det' else None
        yield state, text, fix or f"pip install '{name}{wanted}'"


def _import(args: argparse.Namespace) -> Iterator[Finding]:
    """Import all of it in a process of its own, which a broken build may end."""
    imports = {'mmcim': (BROKEN, _INSTALL)}
    if find_spec('mmdet'):
        imports['mmcim, mmdet.models, mmdet.datasets'] = (MISSING, INSTALL_MMDET)
    for modules, (state, fix) in imports.items():
        command = [sys.executable, '-c', f'import {modules}']
        done = subprocess.run(command, capture_output=True, text=True)
        _, _, error = done.stderr.strip().rpartition('Error: ')
        reason = f': exit code {done.returncode}: {error}' if done.returncode else ''
        yield state if done.returncode else OK, f'import {modules}{reason}', fix


def _devices(args: argparse.Namespace) -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        built = [int(re.findall(r'\d+', arch)[0]) for arch in torch.cuda.get_arch_list()]
        state = OK if 10 * major + minor >= min(built) else BROKEN
        name = f'{torch.cuda.get_device_name(index)}, compute capability {major}.{minor}'
        yield state, f'GPU {index}: {name}', _OLDER_TORCH
    if not torch.cuda.is_available():
        state = MISSING if shutil.which('nvidia-smi') else OK
        fix = f'a newer driver, or a build of torch for this one: {_OLDER_TORCH}'
        build = f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs only'
        yield state, f'no GPU; torch is built for {build}', fix


def _files(args: argparse.Namespace) -> Iterator[Finding]:
    for text, fix in _FILES.items():
        is_there = os.path.exists(text.split(': ')[1])
        yield OK if is_there else OPTIONAL, f'{text} (below {os.getcwd()})', fix


def _images(args: argparse.Namespace) -> Iterator[Finding]:
    if args.data:
        with quiet():
            from ..datasets import check_images, measure_normalization

        listing = check_images(args.data)
        yield OK, f'{args.data}: all readable, {listing}', ''
        found = measure_normalization(args.data / file for file in listing.files)
        mean, std = ([round(value, 1) for value in part] for part in found)
        yield OK, f'its R, G and B, of at most 1000 images: {mean=}, {std=}', ''
