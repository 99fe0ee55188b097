# Copyright (c) mmcim contributors. All rights reserved.
"""A pre-trained backbone in a classifier and a segmentor, on real images.

A step of CIM at 224 px writes a checkpoint and, next to it, the exported backbone.
Either is loaded through ``init_cfg``.
"""

import json

import mmseg.models  # noqa: F401
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmengine.registry import DefaultScope
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from mmpretrain.registry import MODELS
from mmseg.registry import MODELS as MMSEG_MODELS
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from mmcim.checkpoints import BackboneFile, BackboneRecord, load_checkpoint
from mmcim.engine import StrictRunner
from tests.models.selfsup.conftest import respix

pytestmark = pytest.mark.slow

ARCH = dict(embed_dims=64, num_layers=3, num_heads=4, feedforward_channels=128)
VIT = dict(arch=ARCH, img_size=224, patch_size=16, out_type='featmap')
NETWORKS = {
    'vit': dict(type='VisionTransformer', **VIT),
    'beit': dict(type='FusedBEiTViT', **VIT),
    'beit_shared': dict(
        type='FusedBEiTViT',
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        **VIT,
    ),
    'resnet': dict(type='ResNet', depth=18, stem_channels=8, base_channels=8),
}
# Parameters, and running statistics with their counters.
TENSORS = dict(vit=42, beit=51, beit_shared=49, resnet=120)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def give_positions(backbone):
    """Make a network depend on positions and on the colour of patches.

    Random embeddings of position have no resized version, and random filters of a patch
    see something else when the image is enlarged. With smooth embeddings and filters
    that average, as networks learn them, the rest of a random network may stay random.
    """
    torch.manual_seed(0)
    for name, value in backbone.named_parameters():
        if name == 'patch_embed.projection.weight':
            colour = torch.randn(len(value), 3, 1, 1) / 256 / 3**0.5
            value.data.copy_(colour.expand_as(value))
        elif name == 'pos_embed':
            sincos = build_2d_sincos_position_embedding(
                14, value.shape[-1], cls_token=True
            )
            value.data.copy_(sincos)
        elif name.endswith('relative_position_bias_table'):
            reach = torch.arange(-13.0, 14)
            offsets = torch.cartesian_prod(reach, reach)
            # Each head attends to one side.
            sides = F.normalize(torch.randn(2, 4), dim=0)
            value.data[:-3] = offsets @ sides / 2
        elif value.ndim > 1 and name.startswith('layers'):
            value.data.normal_(std=value[0].numel() ** -0.5)


@pytest.fixture(scope='module')
def load_images(imagenette_mini):
    """Give six images at a size: (6, 3, size, size), normalised."""
    files = sorted((imagenette_mini / 'val').glob('*/*'))[::70]
    assert len(files) == 6

    def load(size):
        batch = []
        for file in files:
            with Image.open(file) as image:
                resized = image.convert('RGB').resize((size, size), Image.BICUBIC)
            batch.append(pil_to_tensor(resized).float())
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
        return (torch.stack(batch) - mean) / std

    return load


@pytest.fixture(scope='module', params=NETWORKS)
def trained(request, imagenette_mini, tmp_path_factory):
    """Name of a network and the runner of its pre-training."""
    name = request.param
    neck = dict(channels=64, stride=32 if name == 'resnet' else 16)
    arch = {**ARCH, 'num_layers': 1}
    model = dict(
        type='CIM',
        tokenizer=dict(type='GreyTokenizer'),
        masking=dict(type='UniformMasking', num_masked=(90, 110), num_patches=196),
        generator=dict(
            type='CIMGenerator',
            backbone=dict(
                type='FusedBEiTPretrainViT', arch=arch, img_size=224, patch_size=16
            ),
            head=dict(type='MaskedTokenHead', embed_dims=64, vocab_size=16),
        ),
        enhancer=respix(NETWORKS[name], **neck),
        data_preprocessor=dict(
            type='CIMDataPreprocessor', mean=MEAN, std=STD, to_rgb=True, tokenizer_size=56
        ),
    )
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='CustomDataset',
            data_root=str(imagenette_mini / 'train'),
            with_label=False,
            pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
        ),
    )
    folder = tmp_path_factory.mktemp(name)
    runner = StrictRunner.from_cfg(
        dict(
            model=model,
            work_dir=str(folder),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=False, max_iters=1),
            # A step too small to add noise to the embeddings.
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-5)),
            default_hooks=dict(
                checkpoint=dict(type='SafeCheckpointHook', by_epoch=False, interval=1),
                export=dict(type='BackboneExportHook'),
            ),
            default_scope='mmpretrain',
            randomness=dict(seed=0),
            log_level='ERROR',
            experiment_name=folder.name,
        )
    )
    runner.model.init_weights()
    give_positions(runner.model.backbone)
    runner._init_model_weights = lambda: None
    runner.train()
    return name, runner


@pytest.fixture(params=['iter_1.pth', 'iter_1_backbone.safetensors'])
def checkpoint(request, trained):
    return f'{trained[1].work_dir}/{request.param}'


def segmentor(backbone):
    return dict(
        type='EncoderDecoder',
        backbone={**backbone, 'type': f'mmpretrain.{backbone["type"]}'},
        decode_head=dict(
            type='FCNHead', in_channels=64, channels=64, num_convs=0, concat_input=False,
            in_index=-1, num_classes=3,
        ),
        train_cfg={},
        test_cfg=dict(mode='whole'),
    )  # fmt: skip


def classifier(backbone):
    head = dict(type='LinearClsHead', num_classes=3, in_channels=64)
    return dict(type='ImageClassifier', backbone=backbone, head=head)


def finetuned(kind, network, checkpoint, **changes):
    """Build and initialise the model as a runner does; give its backbone."""
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint)
    backbone = {**network, **changes, 'init_cfg': init_cfg}
    if kind == 'classifier':
        scope, registry, config = 'mmpretrain', MODELS, classifier(backbone)
    else:
        scope, registry, config = 'mmseg', MMSEG_MODELS, segmentor(backbone)
    with DefaultScope.overwrite_default_scope(scope):
        model = registry.build(config)
        model.init_weights()
    model.eval()
    return model.backbone


@torch.no_grad()
def features(backbone, images):
    backbone.eval()
    return backbone(images)[-1]


@pytest.mark.parametrize('kind', ['classifier', 'segmentor'])
def test_exported_features_match(trained, checkpoint, kind, load_images, log):
    name, runner = trained
    images = load_images(224)
    before = features(runner.model.backbone, images)
    assert before.std(dim=0).mean() > 1e-2  # images differ
    after = features(finetuned(kind, NETWORKS[name], checkpoint), images)
    assert torch.equal(after, before)
    assert f'Backbone weights: {TENSORS[name]} of {TENSORS[name]} tensors' in log[0]
    unused = 'generator.*, enhancer.*' if checkpoint.endswith('.pth') else 'none'
    assert 'missing' not in log[0] and log[0].endswith(f'; unused: {unused}.')


@pytest.mark.parametrize('trained', ['vit', 'beit', 'beit_shared'], indirect=True)
@pytest.mark.parametrize(
    ('kind', 'file'),
    [('classifier', 'iter_1_backbone.safetensors'), ('segmentor', 'iter_1.pth')],
)
def test_exported_features_match_at_512_px(trained, kind, file, load_images, log):
    """Enlarged images give the same mean feature of all patches.

    What is compared are positions: with random ones of the same size instead, the
    cosine similarity falls clearly below what is asked for here.
    """
    name, runner = trained
    before = features(runner.model.backbone, load_images(224)).mean(dim=(2, 3))
    checkpoint = f'{runner.work_dir}/{file}'
    backbone = finetuned(kind, NETWORKS[name], checkpoint, img_size=512)
    images = load_images(512)
    table = 'attn.relative_position_bias_table'
    resized = {'vit': 'pos_embed', 'beit': f'layers.0-2.{table}'}
    resized['beit_shared'] = f'rel_pos_bias.{table.split(".")[1]}'
    assert f'of {TENSORS[name]} tensors matched from ' in log[0]
    assert f'; resized: {resized[name]} ' in log[0]

    def similarity():
        after = features(backbone, images).mean(dim=(2, 3))
        return F.cosine_similarity(before, after).min()

    assert similarity() > 0.99
    torch.manual_seed(0)
    for key, value in backbone.named_parameters():
        if key == 'pos_embed':
            value.data.normal_(std=value.std().item())
        elif key.endswith('relative_position_bias_table'):
            value.data = value[torch.randperm(len(value))]
    assert similarity() < 0.95


def test_record_fields(trained, checkpoint, load_images):
    """The backbone can be rebuilt from either file alone."""
    name, runner = trained
    file = BackboneFile.read(checkpoint)
    record = file.record
    assert record.config == Config(NETWORKS[name]).to_dict()
    prefix = 'enhancer.backbone.' if checkpoint.endswith('.pth') else ''
    assert (record.prefix, len(file.below(prefix))) == (prefix, TENSORS[name])
    assert record.origin == dict(method='CIM', epoch=0, iter=1, tokenizer_sha256='0')
    assert (record.mean, record.std) == (MEAN, STD)
    assert record.grid == (None if name == 'resnet' else (14, 14))
    assert any(key.endswith('eps') for key in record.function)

    rebuilt = file.build()
    assert not rebuilt.load_state_dict(file.below(prefix), strict=False).unexpected_keys
    images = load_images(224)[:2]
    before = features(runner.model.backbone, images)
    assert torch.equal(features(rebuilt, images), before)


def test_files_load_without_mmcim(trained, load_images):
    """Plain torch reads the checkpoint, and mmengine's own init_cfg loads it."""
    name, runner = trained
    path = f'{runner.work_dir}/iter_1.pth'
    content = torch.load(path, weights_only=True)
    record = BackboneRecord(**json.loads(content['meta']['backbone']))
    assert content.keys() == load_checkpoint(path).keys()
    net = MODELS.build(dict(record.config, type=f'mmpretrain.{record.config["type"]}'))
    PretrainedInit(path, prefix='enhancer.backbone.')(net)
    images = load_images(224)[:2]
    assert torch.equal(features(net, images), features(runner.model.backbone, images))
