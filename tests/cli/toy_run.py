# Copyright (c) mmcim contributors. All rights reserved.
"""A toy classification run, and ways to start the tools as real processes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import mmcim

REPO = Path(__file__).resolve().parents[2]
TOOLS = REPO / 'tools'

# Starting python and importing torch takes seconds. This process does so once and forks
# for each case, which then is a process of its own with its own command line.
FORKING = """
import json, multiprocessing.util, os, runpy, sys, traceback
import mmcim, mmpretrain.models, mmpretrain.datasets, mmpretrain.engine
for case in json.load(sys.stdin):
    pid = os.fork()
    if pid == 0:
        log = os.open(case['log'], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        code = 0
        try:
            exec(case['before'])
            sys.argv = case['argv']
            runpy.run_path(sys.argv[0], run_name='__main__')
        except SystemExit as error:
            code = error.code or 0
            if isinstance(code, str):
                print(code)
                code = 1
        except BaseException:
            traceback.print_exc()
            code = 1
        # As at the end of any process: without it, temporary folders would stay.
        multiprocessing.util._exit_function()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    status = os.waitpid(pid, 0)[1]
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)
"""

CONFIG = """
_base_ = {base!r}
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32),
        img_size=16, patch_size=8, drop_rate=0.1),
    head=dict(
        type='VisionTransformerClsHead', num_classes=2, in_channels=16,
        loss=dict(type='CrossEntropyLoss')),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, num_classes=2))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=16),
    dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=16),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=8, num_workers=2,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root={root!r}, data_prefix='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8, num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root={root!r}, data_prefix='val',
        pipeline=test_pipeline))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    precision='float32',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.05),
    clip_grad=dict(max_norm=3.0))
param_scheduler = dict(
    type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, convert_to_iter_based=True)
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=2, save_best='auto'), logger=dict(interval=2))
auto_scale_lr = dict(base_batch_size=16, enable=True)
randomness = dict(seed=0)
"""


@dataclass
class Result:
    """How a process ended."""

    code: int
    output: str


@dataclass
class Toy:
    """A folder with images of two classes and a config that learns them."""

    folder: Path
    config: Path

    @property
    def data(self) -> Path:
        return self.folder / 'data'


def make_images(folder: Path) -> None:
    """Write noise of two classes: 32 images to train on, 24 to validate."""
    random = np.random.default_rng(0)
    for split, count in (('train', 16), ('val', 12)):
        for label, name in enumerate('ab'):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 200, (20, 20, 3)) + 8 * label
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / split / name / f'{name}{i}.png')


def environment() -> dict[str, str]:
    """Let a process find mmcim where this one did."""
    path = [str(Path(mmcim.__file__).parents[1]), os.environ.get('PYTHONPATH', '')]
    return {
        **os.environ,
        'PYTHONPATH': os.pathsep.join(filter(None, path)),
        'PYTHON': sys.executable,
        'OMP_NUM_THREADS': '1',
    }


def run_tool(*command: object, cwd: Path) -> Result:
    """Run a command as it is typed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    return Result(done.returncode, done.stdout)


def run_forked(
    cases: dict[str, list], cwd: Path, before: dict[str, str] | None = None
) -> dict[str, Result]:
    """Run several command lines of tools, one process each, one after another.

    Args:
        cases: Name -> the tool's name and its arguments.
        cwd: Folder to run in.
        before: Name -> Python code that the process runs first.
    """
    logs = {name: cwd / f'{name}.log' for name in cases}
    requests = [
        dict(
            argv=[str(TOOLS / tool), *map(str, arguments)],
            log=str(logs[name]),
            before=(before or {}).get(name, ''),
        )
        for name, (tool, *arguments) in cases.items()
    ]
    done = subprocess.run(
        [sys.executable, '-c', FORKING],
        input=json.dumps(requests),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=1800,
        check=True,
    )
    # Importing mmengine may print as well.
    codes = [int(line) for line in done.stdout.splitlines()[-len(cases) :]]
    return {
        name: Result(code, logs[name].read_text())
        for name, code in zip(cases, codes, strict=True)
    }
