# Copyright (c) mmcim contributors. All rights reserved.
"""A pre-training by CIM and a fine-tuning of its backbone, by the tools."""

import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image
from safetensors.torch import save_file

from ..cli.toy_run import REPO, run_forked

TOKENIZER = dict(
    type='DiscreteVAENet', stride=4, vocab_size=512, width=64, depth=1, code_dims=64
)
CIM = """
_base_ = {base!r}
model = dict(tokenizer=dict(checkpoint='tokenizer.safetensors'))
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root='images'))
test_dataloader = dict(num_workers=0, dataset=dict(data_root='images'))
train_cfg = dict(max_iters=4)
param_scheduler = None
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=4))
"""
FINETUNE = """
_base_ = {base!r}
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='pretrained/iter_4_backbone.safetensors')),
    head=dict(num_classes=2))
train_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dict(dataset=dict(data_root='images')))
val_dataloader = dict(num_workers=0, dataset=dict(data_root='images'))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = None
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


class Runs(NamedTuple):
    """Two finished runs.

    Attributes:
        folder: Their configs' relative paths start here.
        pretraining: Config and checkpoint.
        finetuning: Config and checkpoint of a classifier of 'bright' and 'dark'.
        predictions: What tools/test.py predicts with it for the validation images.
    """

    folder: Path
    pretraining: tuple[str, str]
    finetuning: tuple[str, str]
    predictions: list[dict]


def write_images(folder: Path) -> None:
    """Write noise of two levels of brightness, each in a folder of its name."""
    random = np.random.default_rng(0)
    for name, level in dict(bright=130, dark=0).items():
        (folder / name).mkdir(parents=True)
        for i in range(15):
            pixels = random.integers(level, level + 120, (70, 80, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{name}{i}.png')


def write_base(folder: Path, name: str) -> str:
    """Write a config of a folder of images; return its path."""
    path = folder / f'{name}.py'
    Config.fromfile(REPO / f'configs/images/{name}.py').dump(path)
    return str(path)


@pytest.fixture(scope='session')
def runs(tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp('interoperability')
    write_images(folder / 'images')
    tokenizer = MODELS.build(TOKENIZER).state_dict()
    save_file(tokenizer, folder / 'tokenizer.safetensors')
    cases = {}
    for name, config, base in (
        ('pretrained', CIM, 'vit_cim_respix'),
        ('finetuned', FINETUNE, 'vit_finetune'),
    ):
        path = folder / f'{name}.py'
        path.write_text(config.format(base=write_base(folder, base)))
        cases[name] = ['train.py', path, '--work-dir', folder / name]
    checkpoint = folder / 'finetuned/epoch_2.pth'
    predictions = ['--out', folder / 'predictions.pkl']
    cases['tested'] = ['test.py', path, checkpoint, *predictions]
    for name, result in run_forked(cases, folder).items():
        assert result.code == 0, f'{name}: {result.output}'
    return Runs(
        folder,
        (str(folder / 'pretrained.py'), str(folder / 'pretrained/iter_4.pth')),
        (str(folder / 'finetuned.py'), str(checkpoint)),
        pickle.loads((folder / 'predictions.pkl').read_bytes()),
    )
