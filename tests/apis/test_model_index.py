# Copyright (c) mmcim contributors. All rights reserved.
"""model-index.yml, as mmpretrain's ModelHub reads it."""

import functools
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain import get_model, list_models
from mmpretrain.apis import ModelHub
from mmpretrain.registry import MODELS as NETWORKS

REPO = Path(__file__).resolve().parents[2]
FILES = yaml.safe_load((REPO / 'model-index.yml').read_text())['Import']
MODELS = [
    model
    for file in FILES
    for model in yaml.safe_load((REPO / file).read_text())['Models']
]
REPORTED = ('Reported in the Paper', 'Reported by the Authors')


@pytest.fixture
def hub(monkeypatch):
    """ModelHub with our models, for one test."""
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    monkeypatch.setattr(ModelHub, '_ModelHub__mmpretrain_registered', True)
    ModelHub.register_model_index(REPO / 'model-index.yml', config_prefix=REPO)
    return ModelHub


@functools.cache
def read(config):
    return Config.fromfile(REPO / config)


@functools.cache
def count_parameters(backbone):
    """Count the parameters of a JSON config's model, mostly on the meta device."""
    config = json.loads(backbone)
    config.pop('init_cfg', None)
    # ResNet reads a tensor's value.
    device = 'cpu' if config['type'].endswith('ResNet') else 'meta'
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.device(device):
        return sum(p.numel() for p in NETWORKS.build(config).parameters())


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_entry_matches_config(model):
    stem = Path(model['Config']).stem
    # Names contain the method if the file name does not.
    method = model['In Collection'].lower()
    said = method in stem.split('_') or method == 'supervised'
    assert model['Name'] == (stem if said else f'{method}_{stem}')
    # Numbers of others are in their own field.
    assert model['Results'] is None
    assert 'Weights' not in model
    cfg = read(model['Config'])
    metadata = model['Metadata']
    for short, data in dict(
        imagenette='Imagenette', camvid='CamVid', ade20k='ADE20K'
    ).items():
        assert (short in stem) == (metadata['Training Data'] == data)
    network = cfg.model.get('enhancer', cfg.model)
    backbone = json.dumps(network.backbone.to_dict())
    assert metadata['Parameters'] == count_parameters(backbone)
    revdet = cfg.model.type == 'CIM' and network.type == 'RevDet'
    assert ('RevDet' in metadata['Training Techniques']) == revdet
    if cfg.get('train_dataloader') is None:  # nothing is trained
        assert metadata.keys().isdisjoint({'Batch Size', 'Epochs', 'Iterations'})
        return
    gpus, batch = map(int, re.search(r'(\d+)xb(\d+)', stem).groups())
    times = int((re.search(r'-accum(\d+)', stem) or [0, 1])[1])
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.optim_wrapper.get('accumulative_counts', 1) == times
    assert metadata['Batch Size'] == gpus * batch * times
    length = {key: metadata[key] for key in ('Epochs', 'Iterations') if key in metadata}
    epochs, iterations = (cfg.train_cfg.get(key) for key in ('max_epochs', 'max_iters'))
    assert length == (dict(Epochs=epochs) if epochs else dict(Iterations=iterations))


def test_every_config_is_listed_once(hub):
    written = [
        path.relative_to(REPO)
        for file in FILES
        for pattern in ('*.py', 'benchmarks/*.py')
        for path in (REPO / file).parent.glob(pattern)
    ]
    assert sorted(model['Config'] for model in MODELS) == sorted(map(str, written))
    names = [model['Name'] for model in MODELS]
    assert sorted(names) == list_models()
    found = hub.get('vit-l_conmim_32xb64-300e').config
    assert found.filename == str(REPO / 'configs/conmim/vit-l_conmim_32xb64-300e.py')


def test_names_do_not_collide_with_mmpretrain():
    assert not {model['Name'] for model in MODELS} & set(list_models())


def source_of(model):
    """Find the entry whose weights a model starts from, by its config."""
    cfg = read(model['Config'])
    for part in (cfg.model, cfg.model.get('backbone', {})):
        init = part.get('init_cfg')
        if isinstance(init, dict) and init['type'] == 'Pretrained':
            folder = init['checkpoint'].split('/')[1]
            (source,) = (m for m in MODELS if Path(m['Config']).stem == folder)
            return source
    return None


def test_downstream_models_start_from_their_model():
    expected = {}
    for model in MODELS:
        source = source_of(model)
        evaluates = re.search('/(benchmarks|segmentation)/', model['Config'])
        # The two smallest segmentors start from random weights.
        assert (source is not None) == bool(evaluates and '-400i_' not in model['Name'])
        if source:
            expected.setdefault(source['Name'], set()).add(model['Name'])
    # The encoder of RevDet is evaluated as that of ResPix.
    for name in list(expected):
        twin = re.sub('^(cim_[^_]+)_', r'\1_revdet_', name)
        if name.startswith('cim_'):
            expected[twin] = expected[name]
    listed = {m['Name']: m['Downstream'] for m in MODELS if 'Downstream' in m}
    assert {name: set(names) for name, names in listed.items()} == expected
    assert all(len(set(names)) == len(names) for names in listed.values())


def test_reported_numbers_match_papers():
    """Those of arXiv 2202.03382 and 2205.09616 and of CorrIM's repository."""
    reported = {
        name: next(v for k, v in model[key].items() if k in ('Top 1 Accuracy', 'mIoU'))
        for model in MODELS
        for key in REPORTED
        for name in [model['Name']]
        if key in model
    }
    assert reported == {
        'cim_vit-b_8xb256-300e': 83.3,
        'cim_vit-b_revdet_8xb256-300e': 83.3,
        'cim_vit-s_8xb256-300e': 81.5,
        'cim_vit-s_revdet_8xb256-300e': 81.6,
        'cim_resnet50_revdet_8xb256-300e': 78.8,
        'cim_vit-b_finetune_8xb128-100e_in1k': 83.3,
        'cim_vit-s_finetune_8xb128-200e_in1k': 81.5,
        'cim_resnet50_rsb-a3_8xb256-100e_in1k': 78.8,
        'cim_resnet50_rsb-a2_8xb256-300e_in1k': 80.6,
        'cim_vit-b_linear_8xb2-160k_ade20k-512x512': 43.5,
        'cim_resnet50_fcn_8xb2-160k_ade20k-512x512': 38.7,
        'vit-b_conmim_8xb256-300e': 83.5,
        'vit-b_conmim_8xb256-800e': 83.7,
        'vit-l_conmim_32xb64-1600e': 85.5,
        'vit-l_conmim_32xb64-400e': 84.6,
        'vit-l_conmim_32xb64-800e': 85.2,
        'vit-s_conmim_8xb256-300e': 82.0,
        'vit-b_conmim_finetune_8xb128-100e_in1k': 83.7,
        'vit-l_conmim_finetune_8xb128-50e_in1k': 85.5,
        'vit-s_conmim_finetune_8xb128-200e_in1k': 82.0,
        'vit-b_conmim_finetune_8xb64-10e_in1k-384px': 85.3,
        'vit-l_conmim_finetune_8xb32-accum2-5e_in1k-384px': 86.5,
        'vit-s_conmim_finetune_8xb64-20e_in1k-384px': 83.9,
        'corrim_vit-b_8xb256-accum2-300e': 83.1,
        'vit-b_corrim_finetune_8xb256-100e_in1k': 83.1,
        'vit-b_beit_8xb256-300e': 82.9,
        'vit-b_beit_finetune_8xb128-100e_in1k': 82.9,
    }


@pytest.mark.parametrize(
    ('name', 'network', 'size'),
    [
        (
            'cim_vit-s_finetune_1xb128-100e_imagenette-128',
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


SEGMENTOR = 'vit-tiny_upernet_1xb8-400i_camvid-240x180'


@pytest.fixture
def own_scope(monkeypatch):
    """mmsegmentation changes the default scope of the process."""
    scopes = DefaultScope._instance_dict.copy()
    monkeypatch.setattr(DefaultScope, '_instance_dict', scopes)


def test_segmentor_by_name(hub, own_scope):
    mmseg = pytest.importorskip('mmseg.apis')
    model = mmseg.init_model(hub.get(SEGMENTOR).config, device='cpu')
    assert model.decode_head.num_classes == 11
