# Copyright (c) mmcim contributors. All rights reserved.
"""MMPretrain's own inferencers and tools on our runs, called as its users call them."""

from pathlib import Path

import matplotlib
import mmpretrain
import pytest
import torch
import yaml
from mmpretrain import (
    FeatureExtractor,
    ImageClassificationInferencer,
    get_model,
    inference_model,
)
from mmpretrain.apis import ModelHub
from PIL import Image
from torch.testing import assert_close

from mmcim.apis import load_backbone

from ..cli.toy_run import run_forked

pytestmark = pytest.mark.slow

TOOLS = Path(mmpretrain.__file__).parent / '.mim/tools'
WITHOUT_LAYER_DECAY = 'optim_wrapper.constructor=NetworkwiseOptimWrapperConstructor'


@pytest.fixture(autouse=True)
def in_folder(runs, monkeypatch):
    monkeypatch.chdir(runs.folder)


def image_paths(runs):
    return [sample['img_path'] for sample in runs.predictions]


def test_classification_inferencer_predicts_as_test_does(runs, tmp_path):
    config, checkpoint = runs.finetuning
    inferencer = ImageClassificationInferencer(config, pretrained=checkpoint)
    results = inferencer(image_paths(runs), batch_size=4, show_dir=str(tmp_path))
    assert len(results) == len(runs.predictions)
    for path, result, sample in zip(image_paths(runs), results, runs.predictions):
        scores = torch.from_numpy(result['pred_scores'])
        assert_close(scores, sample['pred_score'], atol=1e-5, rtol=0)
        assert result['pred_class'] == Path(path).parent.name
        drawn = Image.open(tmp_path / Path(path).name)
        assert drawn.size == (80, 70)


def test_inference_model_finds_a_registered_classifier(runs, monkeypatch, tmp_path):
    """It takes the task from a model index; for a config alone it has none."""
    config, checkpoint = runs.finetuning
    entry = dict(Name='ours', Config=config)
    entry['Results'] = [dict(Task='Image Classification', Dataset='images', Metrics={})]
    (tmp_path / 'index.yml').write_text(yaml.safe_dump(dict(Models=[entry])))
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    monkeypatch.setattr(ModelHub, '_ModelHub__mmpretrain_registered', True)
    ModelHub.register_model_index(tmp_path / 'index.yml')
    model = get_model('ours', pretrained=checkpoint)
    for path in image_paths(runs):
        assert inference_model(model, path)['pred_class'] == Path(path).parent.name


def test_feature_extractor_of_classifier(runs):
    config, checkpoint = runs.finetuning
    extract = FeatureExtractor(config, pretrained=checkpoint)
    assert extract(image_paths(runs)[0])[0][-1].shape == (128,)


def test_feature_extractor_of_pretraining(runs):
    """The same features as of the exported backbone, which needs no tokenizer."""
    config, checkpoint = runs.pretraining
    extract = FeatureExtractor(config, pretrained=checkpoint)
    backbone = load_backbone(checkpoint)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in backbone.normalization)
    paths = image_paths(runs)
    found = extract(paths)
    assert len(found) == len(paths)
    for path, (features,) in zip(paths, found, strict=True):
        (batch,) = extract.preprocess([path])
        bgr = torch.stack(list(batch['inputs']))  # (1, 3, 64, 64)
        images = (bgr.flip(1) - mean) / std
        with torch.no_grad():
            torch.testing.assert_close(features, backbone(images)[-1][0])


@pytest.fixture(scope='module')
def outputs(runs):
    """What the command-line tools write, in folders of the cases' names."""
    cases = {}
    for name, (config, checkpoint) in dict(
        pretraining=runs.pretraining, finetuning=runs.finetuning
    ).items():
        (log,) = Path(checkpoint).parent.glob('*/vis_data/2*.json')
        (runs.folder / name).mkdir()
        browse = [TOOLS / 'visualization/browse_dataset.py', config, '--not-show']
        browse += ['--show-number', '3', '--output-dir']
        analyze = [TOOLS / 'analysis_tools/analyze_logs.py']
        schedule = [TOOLS / 'visualization/vis_scheduler.py', config, '--not-show']
        schedule += ['--save-path', runs.folder / name / 'lr.png']
        for mode in ('original', 'pipeline'):
            folder = runs.folder / name / mode
            cases[f'{name} {mode}'] = [*browse, folder, '--mode', mode]
        cases[f'{name} lr'] = [*schedule, '--cfg-options', WITHOUT_LAYER_DECAY]
        metric = 'loss_gen' if name == 'pretraining' else 'accuracy/top1'
        plot = ['plot_curve', log, '--keys', 'loss', metric]
        plot += ['--out', runs.folder / name / 'loss.png']
        cases[f'{name} loss'] = [*analyze, *plot]
        cases[f'{name} time'] = [*analyze, 'cal_train_time', log]
    cases['layer decay'] = schedule
    return run_forked(cases, runs.folder)


RUNS = pytest.mark.parametrize('name', ['pretraining', 'finetuning'])


@RUNS
def test_browse_dataset(runs, outputs, name):
    assert outputs[f'{name} original'].code == 0, outputs[f'{name} original'].output
    paths = sorted((runs.folder / name / 'original').iterdir())
    assert len(paths) == 3
    for path in paths:
        kind = path.stem.rstrip('0123456789')
        mean = torch.tensor(list(Image.open(path).convert('L').getdata())).float().mean()
        assert (mean > 120) == (kind == 'bright')


@RUNS
@pytest.mark.skipif(
    tuple(map(int, matplotlib.__version__.split('.')[:2])) >= (3, 11),
    reason="browse_dataset.py calls matplotlib's adjust_bbox as it was before 3.11",
)
def test_browse_dataset_shows_the_pipeline(runs, outputs, name):
    assert outputs[f'{name} pipeline'].code == 0, outputs[f'{name} pipeline'].output
    assert len(list((runs.folder / name / 'pipeline').glob('*.png'))) == 3


@RUNS
def test_vis_scheduler(runs, outputs, name):
    result = outputs[f'{name} lr']
    assert result.code == 0, result.output
    assert Image.open(runs.folder / name / 'lr.png').size == (1200, 700)


def test_vis_scheduler_cannot_draw_layer_decay(outputs):
    """Its stand-in for the model has no layers; the error names the way out."""
    result = outputs['layer decay']
    assert result.code == 1
    assert WITHOUT_LAYER_DECAY.split('=')[0] in result.output


@RUNS
def test_analyze_logs(runs, outputs, name):
    for kind in ('loss', 'time'):
        assert outputs[f'{name} {kind}'].code == 0, outputs[f'{name} {kind}'].output
    assert Image.open(runs.folder / name / 'loss.png').size == (1200, 700)
    assert 'average iter time: 0.' in outputs[f'{name} time'].output
