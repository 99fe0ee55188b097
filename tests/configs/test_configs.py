# Copyright (c) mmcim contributors. All rights reserved.
"""Every config spells its keys right, builds, and makes one step at a reduced size."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from safetensors.torch import save_file

from mmcim.models.tokenizers import DALLETokenizer, DiscreteVAENet

from ..conftest import init_weights, is_readable
from ..goldens.recipes import bases_read_once

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# What has tests of its own beside this one.
ELSEWHERE = ('_base_', 'benchmarks', 'segmentation', 'conmim', 'corrim', 'baselines')
ELSEWHERE += ('images', 'detection')
BASELINES = ('beit', 'dino', 'mae', 'simmim', 'mocov3')  # of configs/quickstart
PATHS = [path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py')]
NAMES = sorted(
    str(path)
    for path in PATHS
    if not {*path.parts, path.stem}.intersection((*ELSEWHERE, *BASELINES))
)
WIDTH = 32


@pytest.fixture(scope='module')
def narrow_dalle(tmp_path_factory):
    """DALL-E's tokenizer with all 8192 codes, but a sixteenth of the width."""
    dall_e = pytest.importorskip('dall_e', reason='needs "pip install dall-e attrs"')
    torch.manual_seed(0)
    parts = dict(
        encoder=dall_e.Encoder(n_hid=64), decoder=dall_e.Decoder(n_init=8, n_hid=64)
    )
    tensors = {
        f'{part}.{key}': value
        for part, network in parts.items()
        for key, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp('weights') / 'dalle.safetensors'
    save_file(tensors, path)
    assert DALLETokenizer(str(path)).vocab_size == 8192
    return str(path)


def narrow(backbone):
    """Shrink a backbone in place; return the width of its feature map."""
    backbone.init_cfg = None
    if backbone.type == 'ResNet':
        backbone.depth = 18
        return 512
    depth = 2 if isinstance(backbone.arch, str) else backbone.arch.num_layers
    backbone.arch = dict(
        embed_dims=WIDTH, num_layers=depth, num_heads=2, feedforward_channels=WIDTH
    )
    return WIDTH


def shrink(cfg, narrow_dalle, folder):
    """Reduce the widths of all networks; grids, vocabularies and losses stay."""
    model = cfg.model
    if model.type == 'DiscreteVAETrainer':
        model.backbone.update(width=16, code_dims=8)
        return
    if model.type == 'ImageClassifier':
        model.head.in_channels = narrow(model.backbone)
        return
    width = narrow(model.enhancer.backbone)
    part = model.enhancer.get('neck') or model.enhancer.head
    part.in_channels = width
    if model.get('generator'):
        model.generator.head.embed_dims = narrow(model.generator.backbone)
    tokenizer = model.get('tokenizer')
    if tokenizer and tokenizer.type == 'DALLETokenizer':
        tokenizer.checkpoint = narrow_dalle
    elif tokenizer:
        vocab_size = model.generator.head.vocab_size
        net = DiscreteVAENet(stride=4, vocab_size=vocab_size, width=16, code_dims=8)
        tokenizer.checkpoint = str(folder / 'dvae.safetensors')
        save_file(net.state_dict(), tokenizer.checkpoint)


def image_size(cfg):
    """Side of the images that the data pipeline gives."""
    for step in cfg.train_pipeline:
        if 'RandomResizedCrop' in step.type:
            return step.scale
    dataset = cfg.train_dataloader.dataset
    return dataset.get('size') or dataset.dataset.size


def random_batch(cfg, size=2):
    """A batch as the loader gives it."""
    side = image_size(cfg)
    inputs = torch.randint(256, (size, 3, side, side), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(size)]
    return dict(inputs=inputs, data_samples=samples)


def test_configs_exist():
    assert 'cim/vit-b_8xb256-300e.py' in NAMES


@pytest.mark.parametrize('name', NAMES)
def test_config_makes_a_step(name, narrow_dalle, tmp_path):
    cfg = Config.fromfile(CONFIGS / name)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        shrink(cfg, narrow_dalle, tmp_path)
        model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
        init_weights(model)
        model.train()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    frozen = {key: value.clone() for key, value in tokenizer_tensors(model)}
    # A residual branch that ends in a norm of weight zero moves from the second step on.
    for _ in range(2 if 'resnet' in name else 1):
        log = model.train_step(random_batch(cfg), optim)
        assert torch.isfinite(log['loss'])
    still = [key for key, value in model.named_parameters() if value.equal(before[key])]
    # The positions of the quickstart's ViT are given.
    given = {'FixedPositionViT': ['pos_embed']}.get(type(model.backbone).__name__, [])
    wanted = [prefix_of_backbone(model) + name for name in given]
    assert still == wanted, f'no step for {still}'
    assert all(value.equal(frozen[key]) for key, value in tokenizer_tensors(model))


def prefix_of_backbone(model):
    return getattr(model, 'backbone_prefix', None) or 'backbone.'


def tokenizer_tensors(model):
    tokenizer = getattr(model, 'tokenizer', None)
    return [] if tokenizer is None else list(tokenizer.named_buffers())


ABLATIONS = [name for name in NAMES if name.startswith('cim/ablations/')]


@pytest.mark.parametrize('name', ABLATIONS)
def test_ablation_is_short_and_changes_only_the_model(name):
    text = (CONFIGS / name).read_text()
    assert 5 <= len(text.splitlines()) <= 15
    stem = Path(name).stem
    of = next(k for k in ('vit-b_revdet', 'vit-b', 'resnet50') if stem.startswith(k))
    base = Config.fromfile(CONFIGS / f'cim/{of}_8xb256-300e.py').to_dict()
    ablation = Config.fromfile(CONFIGS / name).to_dict()
    assert ablation['model'] != base['model']
    assert {**ablation, 'model': None} == {**base, 'model': None}


def test_names_differ_in_all_folders():
    stems = [path.stem for path in PATHS if '_base_' not in path.parts]
    assert len(set(stems)) == len(stems)


def test_checkpoints_are_those_of_a_config_in_its_work_directory():
    for path in PATHS:
        for run in re.findall(r"'work_dirs/([^'.]+)/'?", (CONFIGS / path).read_text()):
            name = run if (CONFIGS / f'{run}.py').exists() else str(Path(run).parent)
            found = (CONFIGS / f'{name}.py').is_file() or name.startswith('quickstart')
            assert found, (path, run)


def leaves(node):
    """Count the values in a config."""
    if isinstance(node, dict):
        return sum(map(leaves, node.values()))
    return sum(map(leaves, node)) if isinstance(node, list | tuple) else 1


def test_only_ablations_set_two_keys_or_fewer():
    """What one or two options say needs no file, unless it is there to inherit from."""
    with bases_read_once():
        check_numbers_of_keys()


def check_numbers_of_keys():
    for path in PATHS:
        text = (CONFIGS / path).read_text()
        one = re.search(r"^_base_ = '.*'$", text, re.MULTILINE)
        skipped = {'_base_', 'ablations'} & {*path.parts} or not is_readable(path)
        if one is None or skipped:
            continue
        own, base = (
            Config.fromfile(p, import_custom_modules=False).to_dict()
            for p in (CONFIGS / path, (CONFIGS / path).parent / one[0].split("'")[1])
        )
        changed = sum(leaves(own[k]) for k in own if own[k] != base.get(k))
        assert changed > 2, path


def test_inheritance_is_by_name():
    for path in PATHS:
        assert not re.search(r'_base_\.[\w.]+\[', (CONFIGS / path).read_text()), path
