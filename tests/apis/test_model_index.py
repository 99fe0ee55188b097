# Copyright (c) mmcim contributors. All rights reserved.
"""model-index.yml, as mmpretrain's ModelHub reads it."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from mmpretrain import get_model, list_models
from mmpretrain.apis import ModelHub

from ..goldens.recipes import bases_read_once

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / '.dev'))
import metafiles  # noqa: E402

FILES = yaml.safe_load((REPO / 'model-index.yml').read_text())['Import']
OFFERED = [
    model
    for file in FILES
    for model in yaml.safe_load((REPO / file).read_text())['Models']
]
MODELS = [
    model
    for file in sorted(REPO.glob('configs/*/metafile*.yml'))
    for model in yaml.safe_load(file.read_text())['Models']
]


@pytest.fixture
def hub(monkeypatch):
    """ModelHub with our models; afterwards without."""
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    monkeypatch.setattr(ModelHub, '_ModelHub__mmpretrain_registered', True)
    ModelHub.register_model_index(REPO / 'model-index.yml', config_prefix=REPO)
    return ModelHub


def test_metafiles_are_up_to_date():
    """If not: python .dev/metafiles.py."""
    written = [*REPO.glob('configs/*/metafile*.yml'), REPO / 'model-index.yml']
    found = {p.relative_to(REPO).as_posix(): p.read_text() for p in written}
    with bases_read_once():
        assert found == metafiles.metafiles()


def test_every_config_is_listed_once():
    written = REPO.glob('configs/[!_]*/**/*.py')
    written = sorted(path.relative_to(REPO).as_posix() for path in written)
    assert sorted(model['Config'] for model in MODELS) == written


def test_entries():
    by_name = {model['Name']: model['Metadata'] for model in MODELS}
    assert by_name['vit-l_conmim_finetune_8xb32-accum2-5e_in1k-384px'] == {
        'Description': "ConMIM's ViT-L/16, fine-tuned at 224 px, fine-tuned further at "
        '384 px for 5 epochs',
        'Paper': '86.5 top-1 after 1600 epochs of pre-training, 86.3 after 800',
        'Training Data': 'ImageNet-1k',
        'Epochs': 5,
        'Batch Size': 512,
        'Parameters': 303973888,
    }
    assert by_name['vit-s_upernet_1xb8-amp-20k_camvid-480x360']['Iterations'] == 20000
    assert by_name['vit-b_window-6']['Batch Size'] == 2048
    assert 'Epochs' not in by_name['knn_in1k']


def test_the_papers_numbers():
    """Those of CIM's and ConMIM's tables and of CorrIM's repository."""
    reported = {
        model['Name']: float(model['Metadata']['Paper'].split()[0])
        for model in MODELS
        if 'Paper' in model['Metadata']
    }
    assert reported == {
        'vit-b_8xb256-300e': 83.3,
        'vit-b_revdet_8xb256-300e': 83.3,
        'vit-s_8xb256-300e': 81.5,
        'vit-s_revdet_8xb256-300e': 81.6,
        'resnet50_revdet_8xb256-300e': 78.8,
        'vit-b_finetune_8xb128-100e_in1k': 83.3,
        'vit-s_finetune_8xb128-200e_in1k': 81.5,
        'resnet50_rsb-a3_8xb256-100e_in1k': 78.8,
        'resnet50_rsb-a2_8xb256-300e_in1k': 80.6,
        'vit-b_linear_8xb2-160k_ade20k-512x512': 43.5,
        'resnet50_fcn_8xb2-160k_ade20k-512x512': 38.7,
        'vit-b_conmim_8xb256-300e': 83.5,
        'vit-b_conmim_epochs-800': 83.7,
        'vit-l_conmim_32xb64-1600e': 85.5,
        'vit-l_conmim_epochs-400': 84.6,
        'vit-l_conmim_epochs-800': 85.2,
        'vit-s_conmim_8xb256-300e': 82.0,
        'vit-l_conmim_finetune_8xb128-50e_in1k': 85.5,
        'vit-b_conmim_finetune_8xb64-10e_in1k-384px': 85.3,
        'vit-l_conmim_finetune_8xb32-accum2-5e_in1k-384px': 86.5,
        'vit-s_conmim_finetune_8xb64-20e_in1k-384px': 83.9,
        'vit-b_corrim_8xb256-accum2-300e': 83.1,
        'vit-b_corrim_finetune_8xb256-100e_in1k': 83.1,
        'vit-b_beit_8xb256-300e': 82.9,
        'vit-b_mae_finetune_8xb128-100e_in1k': 83.6,
        'vit-b_mocov3_finetune_8xb128-150e_in1k': 83.2,
        'vit-b_simmim_finetune_8xb128-100e_in1k': 83.8,
        'vit-b_scratch_8xb512-300e_in1k': 82.3,
        'vit-s_scratch_8xb128-300e_in1k': 79.9,
    }


def test_the_hub_offers_what_it_can_build(hub):
    assert list_models() == sorted(model['Name'] for model in OFFERED)
    built = set()
    for model in OFFERED:
        with bases_read_once():
            cfg = hub.get(model['Name']).config
        assert cfg.default_scope == 'mmpretrain' and 'tokenizer' not in cfg.model
        text = json.dumps(cfg.model.to_dict(), sort_keys=True)
        if text not in built and 'ResNet' not in text:  # it looks at a tensor's value
            built.add(text)
            with torch.device('meta'):
                get_model(cfg)


def test_no_name_is_one_of_mmpretrains():
    assert not {model['Name'] for model in MODELS} & set(list_models())


@pytest.mark.parametrize(
    ('name', 'network', 'size'),
    [
        (
            'vit-s_finetune_1xb128-100e_imagenette-128',
            'VisionTransformer',
            (128, 128),
        ),
        ('vit-s_conmim_finetune_8xb64-20e_in1k-384px', 'FusedBEiTViT', (384, 384)),
    ],
)
def test_get_model_by_name(hub, name, network, size):
    assert name in list_models(name.split('_finetune')[0])
    model = get_model(name)
    assert type(model.backbone).__name__ == network
    assert model.backbone.img_size == size
    parameters = sum(p.numel() for p in model.backbone.parameters())
    (entry,) = (model for model in MODELS if model['Name'] == name)
    assert parameters == entry['Metadata']['Parameters']
