# Copyright (c) mmcim contributors. All rights reserved.
"""mmcim test as a process: the metric, and checkpoints that do not fit."""

import json
import pickle
import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

from mmcim.checkpoints import load_checkpoint
from mmcim.cli import test

from .toy_run import REPO, run_forked


def accuracy(toy, checkpoint):
    """Percent of the validation images that the model gets right, one by one."""
    cfg = Config.fromfile(toy.config)
    model = MODELS.build(
        {**cfg.model, 'type': 'mmpretrain.ImageClassifier', '_scope_': 'mmpretrain'}
    )
    model.load_state_dict(load_checkpoint(checkpoint)['state_dict'])
    model.eval()
    right = []
    for label, name in enumerate('ab'):
        for path in sorted((toy.data / 'val' / name).iterdir()):
            # OpenCV's bilinear interpolation is that of torch without antialiasing.
            pixels = np.asarray(Image.open(path)).transpose(2, 0, 1).copy()
            image = torch.nn.functional.interpolate(
                torch.from_numpy(pixels)[None].float(), 16, mode='bilinear'
            ).round()
            # mmcv loads BGR, and this data preprocessor does not turn it.
            logits = model((image.flip(1) - 127.5) / 127.5)
            logits = model.head(logits) if not torch.is_tensor(logits) else logits
            right.append(logits.argmax(1).item() == label)
    return 100 * np.mean(right)


@pytest.fixture(scope='module')
def tested(toy, trained):
    """Test good and bad checkpoints of the complete run."""
    folder = toy.folder / 'tested'
    folder.mkdir()
    good = trained / 'epoch_3.pth'
    for name in 'ac':
        shutil.copytree(toy.data / 'val/a', toy.data / 'other' / name)

    checkpoint = load_checkpoint(good)
    weights = checkpoint['state_dict']
    torch.save(
        {'state_dict': {**weights, 'head.extra': torch.zeros(1)}}, folder / 'more.pth'
    )
    fewer = {k: v for k, v in weights.items() if not k.startswith('head.')}
    torch.save({'state_dict': fewer}, folder / 'fewer.pth')
    backbone = {
        k.removeprefix('backbone.'): v
        for k, v in weights.items()
        if k.startswith('backbone.')
    }
    torch.save({'state_dict': backbone}, folder / 'backbone.pth')
    torch.save({'state_dict': {}, 'meta': Fraction(1, 2)}, folder / 'code.pth')

    def case(file, *arguments):
        return ['test.py', toy.config, file, '--work-dir', folder / 'work', *arguments]

    cases = dict(
        good=case(good, '--out', folder / 'out.json'),
        predictions=case(
            good, '--out', folder / 'out.pkl', '--show-dir', folder / 'shown'
        ),
        unlabelled=case(
            good,
            '--out',
            folder / 'unlabelled.pkl',
            '--cfg-options',
            f'test_dataloader.dataset.data_root={toy.folder}/data/val/a',
            'test_dataloader.dataset.data_prefix=',
            'test_dataloader.dataset.with_label=False',
            'test_evaluator=[]',
        ),
        more=case(folder / 'more.pth'),
        fewer=case(folder / 'fewer.pth'),
        backbone=case(folder / 'backbone.pth'),
        wider=case(good, '--cfg-options', 'model.head.num_classes=3'),
        code=case(folder / 'code.pth'),
        missing=case(folder / 'nowhere.pth'),
        mean=case(good, '--cfg-options', 'model.data_preprocessor.mean=[0,0,0]'),
        classes=case(good, '--cfg-options', 'test_dataloader.dataset.data_prefix=other'),
        size=case(good, '--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=24'),
        none=['test.py', toy.config, '--work-dir', folder / 'work'],
        backbone_file=['test.py', REPO / 'configs/benchmarks/knn_in1k.py'],
        no_test=case(good, '--cfg-options', 'test_evaluator=None'),
    )
    return folder, run_forked(cases, cwd=folder)


def test_prints_the_metric(toy, trained, tested):
    folder, results = tested
    assert results['good'].code == 0, results['good'].output
    expected = accuracy(toy, trained / 'epoch_3.pth')
    # Neither chance nor perfection, so that the comparison says something.
    assert 50 <= expected <= 100
    assert f'\naccuracy/top1: {expected:.4f}\n' in results['good'].output
    metrics = json.loads((folder / 'out.json').read_text())
    assert metrics == {'accuracy/top1': pytest.approx(expected, abs=1e-4)}


def test_writes_predictions_and_images(tested):
    folder, results = tested
    assert results['predictions'].code == 0, results['predictions'].output
    assert (folder / 'out.pkl').stat().st_size > 0
    assert len(list((folder / 'shown').glob('**/*.png'))) == 24


def test_unlabelled_images_are_predicted(tested):
    folder, results = tested
    assert results['unlabelled'].code == 0, results['unlabelled'].output
    predictions = pickle.loads((folder / 'unlabelled.pkl').read_bytes())
    assert len(predictions) == 12
    for prediction in predictions:
        assert Path(prediction['img_path']).parent.name == 'a'
        assert prediction['pred_label'] == prediction['pred_score'].argmax()


def test_confusion_matrix_is_written_as_json(tmp_path, monkeypatch):
    metrics = {'confusion_matrix/result': torch.eye(2), 'accuracy/top1': np.float32(50)}
    runner = SimpleNamespace(test=lambda: metrics)
    for name in ('read_config', 'merge_args', 'prepare_loop'):
        monkeypatch.setattr(test, name, lambda *args: None)
    monkeypatch.setattr(test, 'build_runner', lambda *args: runner)
    out = tmp_path / 'out.json'
    test.run(SimpleNamespace(checkpoint='a.pth', out=out))
    assert json.loads(out.read_text()) == {
        'confusion_matrix/result': [[1.0, 0.0], [0.0, 1.0]],
        'accuracy/top1': 50.0,
    }


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('more', ['more.pth', 'head.extra', 'None in the model']),
        ('fewer', ['fewer.pth', 'head.layers.head.weight is None in the']),
        (
            'backbone',
            ['backbone.pth', 'cls_token is (1, 1, 16) in the checkpoint', 'differ'],
        ),
        ('wider', ['model.head.num_classes is 3', 'set it to 2']),
        ('code', ['code.pth', 'Fraction']),
        ('missing', ['nowhere.pth', 'does not exist']),
        (
            'mean',
            ['epoch_3.pth learnt from other inputs: mean.0 is 127.5', 'override=True'],
        ),
        ('none', ['CHECKPOINT is missing', 'random head']),
        (
            'backbone_file',
            ['safetensors does not exist; pass --pretrained'],
        ),
        ('no_test', ['test_evaluator']),
    ],
)
def test_invalid_checkpoint_exits_with_code_2(tested, name, parts):
    _, results = tested
    result = results[name]
    assert result.code == 2, result.output
    assert 'Traceback' not in result.output
    message = result.output[result.output.index('error: ') :]
    for part in parts:
        assert part in message
    assert 'accuracy' not in result.output


@pytest.mark.parametrize(
    ('name', 'warning'),
    [
        ('classes', 'classes.1 is b in training and c in test'),
        ('size', 'image_size.0 is 16 in training and 24 in test'),
    ],
)
def test_other_class_names_and_sizes_are_a_warning(tested, name, warning):
    _, results = tested
    result = results[name]
    assert result.code == 0, result.output
    assert warning in result.output
    assert '\naccuracy/top1: ' in result.output
