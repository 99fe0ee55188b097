# Copyright (c) mmcim contributors. All rights reserved.
"""``--pretrained``: one config takes the backbones of all methods."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from mmcim.checkpoints import adopt_pretrained
from mmcim.utils import ConfigError, build_runner, load_config

from ..backbone_files import write_backbone

WIDTH = 48
ARCH = dict(embed_dims=WIDTH, num_layers=4, num_heads=3, feedforward_channels=64)
SIZE = dict(arch=ARCH, img_size=32, patch_size=8)
# What CIM, CorrIM and ConMIM export, with a ResNet-50 as wide as the head of each.
BACKBONES = dict(
    vit=dict(type='VisionTransformer', out_type='featmap', **SIZE),
    fixed=dict(type='FixedPositionViT', out_type='raw', stop_grad_conv1=True, **SIZE),
    beit=dict(type='FusedBEiTPretrainViT', drop_path_rate=0.1, **SIZE),
    resnet=dict(type='ResNet', depth=50, stem_channels=8, base_channels=8),
)
TRANSFORMERS = ('vit', 'fixed', 'beit')
MEAN, STD = [10.0, 20.0, 30.0], [40.0, 50.0, 60.0]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Name -> file of a backbone, as a pre-training writes it, and its tensors."""
    folder, found = tmp_path_factory.mktemp('backbones'), {}
    for name, config in BACKBONES.items():
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            net = MODELS.build(dict(config))
        tensors = {
            key: value + 0.01 if value.is_floating_point() else value
            for key, value in net.state_dict().items()
            if 'index' not in key
        }
        path = str(folder / f'{name}.safetensors')
        write_backbone(path, tensors, config, mean=MEAN, std=STD, grid=(4, 4))
        found[name] = path, tensors
    return found


def adopted(repo, config, file, **model):
    cfg = load_config(repo / f'configs/{config}.py', pretrained=file)
    cfg.merge_from_dict(dict(model=model))
    adopt_pretrained(cfg)
    return cfg


def build(cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
        model.init_weights()
        wrapper = cfg.get('optim_wrapper')
        return model, wrapper and build_optim_wrapper(model, wrapper)


def check_weights(net, tensors):
    """All that the file has is in the network, but resized positions and last norms."""
    own, equal = net.state_dict(), set()
    for key, value in tensors.items():
        if key in own and own[key].shape == value.shape:
            assert own[key].equal(value), key
            equal.add(key)
    left = {key for key in tensors if key not in equal}
    assert left <= {
        'ln1.weight', 'ln1.bias', 'pos_embed', 'mask_token',
        'rel_pos_bias.relative_position_bias_table',
    }  # fmt: skip


def classify(model, optim, side):
    images = torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    return model.train_step(dict(inputs=images, data_samples=samples), optim)['loss']


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_fine_tuning(repo, files, name):
    config = 'benchmarks/vit-s_finetune_1xb128-100e_imagenette-128'
    file, tensors = files[name]
    cfg = adopted(repo, config, file, head=dict(in_channels=WIDTH))
    assert (cfg.data_preprocessor.mean, cfg.data_preprocessor.std) == (MEAN, STD)
    model, optim = build(cfg)
    net = model.backbone
    check_weights(net, tensors)
    # The architecture is the file's; image size and features are the config's.
    assert (net.embed_dims, len(net.layers), net.img_size) == (WIDTH, 4, (128, 128))
    assert (net.out_type, net.final_norm) == ('avg_featmap', False)
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert torch.isfinite(classify(model.train(), optim, 128))
    rates = {group['lr'] / 4e-3 for group in optim.optimizer.param_groups}
    assert {round(rate, 6) for rate in rates} == {round(0.65**i, 6) for i in range(6)}
    if name == 'beit':
        table = 'rel_pos_bias.relative_position_bias_table'
        assert net.rel_pos_bias is None and table in tensors
        for layer in net.layers:  # each with its own, from 4 x 4 to 16 x 16 patches
            assert layer.attn.relative_position_bias_table.shape == (31 * 31 + 3, 3)


@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.parametrize('task', ['linear_1xb128-90e', 'knn', 'logreg'])
def test_frozen_features_of_any_backbone(repo, files, name, task):
    file, tensors = files[name]
    model, optim = build(adopted(repo, f'benchmarks/{task}_imagenette-128', file))
    check_weights(model.backbone, tensors)
    learns = {key for key, value in model.named_parameters() if value.requires_grad}
    assert learns == {'head.fc.weight', 'head.fc.bias'}
    if optim:
        assert torch.isfinite(classify(model.train(), optim, 64))
    feats = model.eval().extract_feat(torch.randn(2, 3, 64, 64))[-1]
    assert feats.shape == (2, 256 if name == 'resnet' else WIDTH)


@pytest.mark.parametrize('name', BACKBONES)
def test_segmentation(repo, files, name):
    file, tensors = files[name]
    if name == 'resnet':
        config = 'segmentation/resnet50_upernet_1xb8-400i_camvid-240x180'
        part = dict(
            decode_head=dict(in_channels=[32, 64, 128, 256]),
            auxiliary_head=dict(in_channels=128),
        )
    else:
        config = 'segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180'
        part = dict(
            backbone=dict(out_indices=[0, 1, 2, 3]),
            neck=dict(embed_dim=WIDTH),
            decode_head=dict(in_channels=[WIDTH] * 4),
            auxiliary_head=dict(in_channels=WIDTH),
        )
    cfg = adopted(repo, config, file, **part)
    assert cfg.model.data_preprocessor.mean == MEAN
    model, _ = build(cfg)
    check_weights(model.backbone, tensors)
    assert type(model.backbone).__module__.startswith(('mmpretrain.', 'mmcim.'))
    maps = model.extract_feat(torch.randn(1, 3, 64, 96))
    # Of patches of 8 px instead of 16: the strides are the same.
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize('name', TRANSFORMERS)
def test_what_is_auto_follows_file_and_data(repo, files, name):
    """Any ViT or BEiT: width 48, four layers, patches of 8 px, 32 px in pre-training."""
    file, tensors = files[name]
    cfg = adopted(repo, 'segmentation/vit_upernet_1xb8-amp-2k_masks', file)
    assert cfg.model.neck.embed_dim == cfg.model.auxiliary_head.in_channels == WIDTH
    assert cfg.model.decode_head.in_channels == [WIDTH] * 4
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 2
    assert cfg.model.backbone.out_indices == [0, 1, 2, 3]
    _, _, resize, crop, *_ = cfg.train_dataloader.dataset.pipeline
    assert (resize.scale, crop.crop_size) == ((128, 32), (32, 32))
    model, _ = build(cfg)
    check_weights(model.backbone, tensors)
    maps = model.extract_feat(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_dilation_of_the_config_is_kept(repo, files):
    """The file has a plain ResNet; only the config's class contracts the dilation."""
    file, tensors = files['resnet']
    part = dict(decode_head=dict(in_channels=256), auxiliary_head=dict(in_channels=128))
    config = 'segmentation/resnet50_fcn_8xb2-160k_ade20k-512x512'
    model, _ = build(adopted(repo, config, file, **part))
    check_weights(model.backbone, tensors)
    assert type(model.backbone).__name__ == 'DilatedResNet'
    stages = model.backbone.layer3, model.backbone.layer4
    found = [stage[i].conv2.dilation[0] for stage in stages for i in (0, 1)]
    assert found == [1, 2, 2, 4]


def test_what_does_not_fit_is_one_line(repo, files):
    config = 'benchmarks/vit-s_finetune_1xb128-100e_imagenette-128'
    for name, text in (
        ('resnet', 'a ResNet with 256'),
        ('beit', 'a FusedBEiTViT with 48'),
    ):
        with pytest.raises(ConfigError, match=f'{text} channels, .* for 384: ') as error:
            adopted(repo, config, files[name][0])
        assert '\n' not in str(error.value)
    with pytest.raises(ConfigError, match='with 48 channels, but the config is for 2048'):
        adopted(repo, 'benchmarks/resnet50_rsb-a3_8xb256-100e_in1k', files['vit'][0])


def test_a_pre_training_keeps_its_backbone(repo, files):
    with pytest.raises(ConfigError, match='a ConMIM keeps its own backbone; load_from='):
        adopted(repo, 'quickstart/conmim', files['beit'][0])


def test_file_that_does_not_record_its_network(repo, tmp_path):
    """It is that of the config; loading compares them."""
    path = str(tmp_path / 'foreign.pth')
    torch.save(dict(weight=torch.zeros(1)), path)
    cfg = adopted(repo, 'benchmarks/knn_in1k', path)
    assert cfg.model.backbone.type == 'VisionTransformer'
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint=path)
    model = dict(backbone=dict(type='PretrainedBackbone', checkpoint=path))
    with pytest.raises(ConfigError, match='does not say which network'):
        adopt_pretrained(ConfigDict(model=model))


def test_whole_classifier_at_another_size(repo, files):
    """Its config loads the head as well, and the backbone with it."""
    config = 'benchmarks/vit-b_conmim_finetune_8xb64-10e_in1k-384px'
    cfg = adopted(repo, config, files['beit'][0], head=dict(in_channels=WIDTH))
    assert cfg.model.init_cfg.checkpoint == files['beit'][0]
    assert cfg.model.backbone.init_cfg is None
    assert cfg.model.backbone.img_size == 384


def test_built_as_it_is_in_a_config(files):
    """By any builder, without the runner."""
    file, tensors = files['beit']
    config = dict(type='PretrainedBackbone', checkpoint=file, out_type='featmap')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        net = MODELS.build(config)
        net.init_weights()
    check_weights(net, tensors)
    assert net.img_size == (32, 32)
    assert net(torch.randn(1, 3, 32, 32))[-1].shape == (1, WIDTH, 4, 4)


def test_the_runner_resolves_it(repo, files, tmp_path):
    """What is dumped and compared is the network itself."""
    cfg = load_config(
        repo / 'configs/quickstart/linear_probe.py',
        {'model.head.in_channels': WIDTH},
        str(tmp_path),
        pretrained=files['beit'][0],
    )
    runner = build_runner(cfg, 'test')
    assert runner.cfg.model.backbone.type == 'mmpretrain.FusedBEiTViT'
    assert type(runner.model.backbone).__name__ == 'FusedBEiTViT'
    assert 'PretrainedBackbone' not in runner.cfg.pretty_text
