# Copyright (c) mmcim contributors. All rights reserved.
"""Fine-tuning and frozen features through the tools, as processes, on real images."""

import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from ..backbone_files import write_backbone
from .toy_run import REPO, run_forked

pytestmark = pytest.mark.slow

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
BENCHMARKS = REPO / 'configs/benchmarks'
MODEL = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch={arch}, patch_size=16, init_cfg=dict(checkpoint={checkpoint!r}){frozen}),
    head=dict(in_channels=32))
"""
FINETUNE = """
train_dataloader = dict(
    batch_size=10, num_workers=1, dataset=dict(dataset=dict(data_root={root!r})))
val_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2)
param_scheduler = None
default_hooks = dict(logger=dict(interval=1))
auto_scale_lr = dict(base_batch_size=10)
"""
FROZEN = """
test_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
test_cfg = dict(train_dataloader=dict(
    num_workers=0, dataset=dict(num_per_class=8, dataset=dict(data_root={root!r}))))
"""


@pytest.fixture(scope='module')
def runs(tmp_path_factory, imagenette_mini):
    """All command lines; the folder, and name -> how the process ended."""
    folder = tmp_path_factory.mktemp('classification')
    checkpoint = str(folder / 'backbone.safetensors')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        backbone = MODELS.build(
            dict(
                type='VisionTransformer',
                arch=ARCH,
                img_size=128,
                patch_size=16,
                out_type='featmap',
            )
        )
        backbone.init_weights()
    write_backbone(checkpoint, backbone.state_dict())
    configs = {}
    for name in ('finetune_1xb128-100e', 'knn', 'logreg'):
        kind = name.split('_')[0]
        backbone = 'vit-s_' if kind == 'finetune' else ''
        base = str(BENCHMARKS / f'{backbone}{name}_imagenette-128.py')
        configs[kind] = folder / f'{kind}.py'
        text = MODEL + (FINETUNE if kind == 'finetune' else FROZEN)
        configs[kind].write_text(
            text.format(
                base=base,
                arch={'_delete_': True, **ARCH},
                checkpoint=checkpoint,
                frozen='' if kind == 'finetune' else ', frozen_stages=2',
                root=str(imagenette_mini),
            )
        )

    def train(work, *options):
        options = ('--cfg-options', *options) if options else ()
        return ['train.py', configs['finetune'], '--work-dir', folder / work, *options]

    few = 'train_dataloader.dataset.num_per_class='
    few_frozen = 'test_cfg.train_dataloader.dataset.num_per_class=3'
    cases = {
        'train': train('run', f'{few}2', 'randomness.seed=0'),
        'test': [
            'test.py', configs['finetune'], folder / 'run/epoch_2.pth',
            '--out', folder / 'predictions.pkl',
        ],
        'knn': ['test.py', configs['knn']],
        'logreg': ['test.py', configs['logreg']],
        'few knn': ['test.py', configs['knn'], '--cfg-options', few_frozen],
        'too many': train('bad', f'{few}101'),
        'both': train('bad', f'{few}5', 'train_dataloader.dataset.fraction=0.1'),
        'misspelt': train('bad', 'train_dataloader.dataset.num_per_clas=5'),
    }  # fmt: skip
    return folder, run_forked(cases, cwd=folder)


def metrics(result):
    assert result.code == 0, result.output
    found = re.findall(r'^([\w/]+): ([\d.]+)$', result.output, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_finetuning_with_few_labels(runs):
    folder, results = runs
    output = results['train'].output
    assert results['train'].code == 0, output
    # Of 1,000 images 2 of each of 10 classes: two batches of 10.
    assert 'epoch 2/2' in output and 'Training ImageClassifier 4/4  ' in output
    assert 'Backbone weights: 28 of 28 tensors matched' in output
    assert 'new in this network: ln2.weight, ln2.bias' in output
    assert len(list((folder / 'run').glob('best_accuracy_top1_epoch_*.pth'))) == 1


def test_top1_and_top5_of_a_classifier(runs):
    folder, results = runs
    found = metrics(results['test'])
    predictions = pickle.loads((folder / 'predictions.pkl').read_bytes())
    assert len(predictions) == 400
    ranks = [
        int((p['pred_score'] > p['pred_score'][p['gt_label']]).sum()) for p in predictions
    ]
    expected = {
        f'accuracy/top{k}': 100 * np.mean([rank < k for rank in ranks]) for k in (1, 5)
    }
    assert found == pytest.approx(expected, abs=1e-3)
    assert found['accuracy/top1'] < found['accuracy/top5']
    # The training validated on the same images.
    validated = re.findall(
        r'Validation at iteration 4: accuracy/top1 ([\d.]+), accuracy/top5 ([\d.]+)',
        results['train'].output,
    )
    assert [float(x) for x in validated[0]] == pytest.approx(list(found.values()))


@pytest.mark.parametrize(
    'name, kind, count',
    [('knn', 'knn', 80), ('logreg', 'linear', 80), ('few knn', 'knn', 30)],
)
def test_frozen_features(runs, name, kind, count):
    result = runs[1][name]
    found = metrics(result)
    assert set(found) == {f'{kind}/top1', f'{kind}/top5'}
    # Even random features know something about the ten classes.
    assert 10 < found[f'{kind}/top1'] < 50 < found[f'{kind}/top5'] < 100
    assert f'Features of {count} images' in result.output
    assert 'Features of 400 images' in result.output
    assert 'Backbone weights: 30 of 30 tensors matched' in result.output


BAD = {
    'too many': ["Class 'n01440764' has only 100 of 101 images"],
    'both': ['num_per_class=5', 'fraction=0.1', 'set one'],
    'misspelt': ['train_dataloader.dataset.num_per_clas', "Did you mean 'num_per_class'"],
}


@pytest.mark.parametrize('name', BAD)
def test_invalid_number_of_labels_is_an_error(runs, name):
    result = runs[1][name]
    assert result.code == 2, result.output
    assert 'Traceback' not in result.output
    for words in BAD[name]:
        assert words in result.output
