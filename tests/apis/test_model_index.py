# Copyright (c) mmcim contributors. All rights reserved.
"""model-index.yml, as mmpretrain's ModelHub reads it."""

import re
from pathlib import Path

import pytest
import yaml
from mmpretrain import get_model, list_models
from mmpretrain.apis import ModelHub
from mmpretrain.models import VisionTransformer

REPO = Path(__file__).resolve().parents[2]
MODELS = yaml.safe_load((REPO / 'configs/cim/metafile.yml').read_text())['Models']


@pytest.fixture
def hub(monkeypatch):
    """ModelHub with our models; afterwards without."""
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    monkeypatch.setattr(ModelHub, '_ModelHub__mmpretrain_registered', True)
    ModelHub.register_model_index(REPO / 'model-index.yml', config_prefix=REPO)
    return ModelHub


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_entry(hub, model):
    assert model['Name'] == f'cim_{Path(model["Config"]).stem}'
    assert (REPO / model['Config']).is_file()
    # Numbers that are not our own are in the field that says so.
    assert model['Results'] is None
    assert 'Weights' not in model
    for name in model.get('Downstream', ()):
        assert hub.has(name)
    cfg = hub.get(model['Name']).config
    metadata = model['Metadata']
    gpus, batch = map(int, re.search(r'(\d+)xb(\d+)', model['Name']).groups())
    assert cfg.train_dataloader.batch_size == batch
    assert metadata['Batch Size'] == gpus * batch
    assert metadata['Epochs'] == cfg.train_cfg.max_epochs
    revdet = cfg.model.type == 'CIM' and cfg.model.enhancer.type == 'RevDet'
    assert ('RevDet' in metadata['Training Techniques']) == revdet


def test_every_pretraining_is_listed():
    listed = {model['Config'] for model in MODELS}
    written = (REPO / 'configs/cim').glob('*.py')
    assert {str(path.relative_to(REPO)) for path in written} <= listed


def test_the_papers_numbers():
    """Those of arXiv 2202.03382, as the README has them."""
    reported = {
        model['Name']: model['Reported in the Paper']['Top 1 Accuracy']
        for model in MODELS
        if 'Reported in the Paper' in model and 'benchmarks' not in model['Config']
    }
    assert reported == {
        'cim_vit-b_8xb256-300e': 83.3,
        'cim_vit-b_revdet_8xb256-300e': 83.3,
        'cim_vit-s_8xb256-300e': 81.5,
        'cim_vit-s_revdet_8xb256-300e': 81.6,
        'cim_resnet50_revdet_8xb256-300e': 78.8,
    }


def test_get_model_by_name(hub):
    assert 'cim_vit-s_8xb256-300e' in list_models('cim_*300e')
    name = 'cim_vit-s_finetune_1xb128-100e_imagenette-128'
    model = get_model(name, backbone=dict(init_cfg=None))
    assert isinstance(model.backbone, VisionTransformer)
    parameters = sum(p.numel() for p in model.backbone.parameters())
    (entry,) = (model for model in MODELS if model['Name'] == name)
    # Fine-tuning has one norm, elsewhere.
    assert parameters == entry['Metadata']['Parameters']
