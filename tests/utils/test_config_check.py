# Copyright (c) mmcim contributors. All rights reserved.
"""What is accepted and refused; the tool's messages are in tools/test_train.py."""

import os
from functools import partial
from pathlib import Path

import mmpretrain
import mmseg.models  # noqa: F401
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.datasets import CustomDataset, ImageNet
from mmpretrain.models import ResNet, TIMMBackbone, VisionTransformer
from mmpretrain.registry import DATASETS
from mmseg.registry import MODELS as MMSEG_MODELS
from PIL import Image
from safetensors.torch import save_file

from mmcim.engine import SafeCheckpointHook
from mmcim.utils import ConfigError, check_config
from mmcim.utils.config_keys import check_keys
from mmcim.utils.signatures import accepted_arguments


class Base:
    def __init__(self, a, b=0):
        pass


class Forwards(Base):
    def __init__(self, c, **kwargs):
        super().__init__(**kwargs)


class ForwardsByName(Base):
    def __init__(self, *, d=1, **rest):
        Base.__init__(self, a=1, **rest)


class Swallows(Base):
    def __init__(self, c, **kwargs):
        super().__init__(a=1)


class Elsewhere(Base):
    def __init__(self, c, **kwargs):
        super().__init__(a=1)
        self.inner = dict(**kwargs)


class Reads(Base):
    def __init__(self, **kwargs):
        kwargs = {'a': 1, **kwargs}
        kwargs.setdefault('b', 2)
        kwargs.pop('old', None)
        if 'older' in kwargs:
            kwargs['oldest'] = 1
        super().__init__(**kwargs)


def function(x, y=1):
    return x, y


@pytest.mark.parametrize(
    ('builder', 'expected'),
    [
        (Base, {'a', 'b'}),
        (Forwards, {'a', 'b', 'c'}),
        (ForwardsByName, {'a', 'b', 'd'}),
        (Swallows, {'c'}),
        (Elsewhere, None),
        (Reads, {'a', 'b', 'old', 'older', 'oldest'}),
        (function, {'x', 'y'}),
        (partial(function, 1), {'y'}),
    ],
)
def test_accepted_arguments(builder, expected):
    assert accepted_arguments(builder) == expected


def test_accepted_arguments_of_real_classes():
    assert {'arch', 'drop_rate', 'init_cfg'} <= accepted_arguments(VisionTransformer)
    assert 'drop_rat' not in accepted_arguments(VisionTransformer)
    assert {'depth', 'norm_cfg'} <= accepted_arguments(ResNet)
    assert {'split', 'extensions', 'pipeline', 'indices'} <= accepted_arguments(ImageNet)
    # Its keyword arguments go to timm.
    assert accepted_arguments(TIMMBackbone) is None
    # It looks at its parent's keyword arguments itself.
    assert accepted_arguments(SafeCheckpointHook) is None


PICTURES = dict(
    type='CustomDataset',
    data_root='data',
    data_prefix='train',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
)


def config(**changes):
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            work_dir='work',
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='ResNet',
                    depth=18,
                    norm_cfg=dict(type='SyncBN', requires_grad=True),
                    init_cfg=[
                        dict(type='Kaiming', layer=['Conv2d']),
                        dict(
                            type='Constant',
                            val=1,
                            layer=['BatchNorm2d'],
                            override=dict(type='Normal', name='fc', std=0.01),
                        ),
                    ],
                ),
                head=dict(
                    type='LinearClsHead',
                    num_classes=2,
                    in_channels=512,
                    loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
                ),
                train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
            ),
            train_dataloader=dict(
                dataset=dict(PICTURES),
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
                batch_size=2,
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(
                type='AutoAmpOptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.98)),
                constructor='NetworkwiseOptimWrapperConstructor',
                paramwise_cfg=dict(custom_keys={'fc': dict(lr_mult=0.1)}),
                clip_grad=dict(max_norm=3.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', convert_to_iter_based=True, end=1),
                dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1),
            ],
            default_hooks=dict(
                param_scheduler=dict(type='ParamSchedulerHook'),
                checkpoint=dict(type='SafeCheckpointHook', interval=1),
            ),
            custom_hooks=[dict(type='FiniteLossHook', priority='NORMAL')],
            randomness=dict(seed=None, diff_rank_seed=True),
            my_own_variable=1,
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split in ('train', 'val'):
        for name in 'ab':
            folder = Path('data', split, name)
            folder.mkdir(parents=True)
            Image.new('RGB', (4, 4)).save(folder / '1.JPG', 'JPEG')
    return Path('data')


def keys(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        check_keys(cfg)


def test_good_config(data):
    check_config(config())


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('model.backbone.dept', 18, 'ResNet has no argument dept. Do you mean depth'),
        ('model.backbon', 1, 'ImageClassifier has no argument backbon.'),
        ('model.head.loss.weight', 1, 'CrossEntropyLoss has no argument weight'),
        ('model.backbone.norm_cfg.epsilon', 1, 'SyncBatchNorm has no argument'),
        ('model.train_cfg.augments.0.alhpa', 1, 'Mixup has no argument alhpa'),
        ('model.backbone.init_cfg.0.laeyr', 1, 'KaimingInit has no argument'),
        ('train_dataloader.sampler.suffle', 1, 'DefaultSampler has no argument'),
        ('train_dataloader.batchsize', 1, 'Do you mean batch_size'),
        ('train_dataloader.dataset.with_labels', 1, 'Do you mean with_label'),
        ('train_dataloader.dataset.pipeline.0.colour', 1, 'LoadImageFromFile has no'),
        ('train_cfg.max_epoch', 1, 'EpochBasedTrainLoop has no argument max_epoch'),
        ('optim_wrapper.accumulative_count', 1, 'Do you mean accumulative_counts'),
        ('optim_wrapper.optimizer.beta', 1, 'AdamW has no argument beta'),
        ('optim_wrapper.paramwise_cfg.custom_key', 1, 'Do you mean custom_keys'),
        ('param_scheduler.1.etamin', 1, 'CosineAnnealingLR has no argument etamin'),
        ('default_hooks.param_scheduler.interval', 1, 'ParamSchedulerHook has no'),
        ('custom_hooks.0.intervall', 1, 'FiniteLossHook has no argument'),
        ('randomness.sead', 1, 'Do you mean seed'),
    ],
)
def test_misspelt_key(key, value, message):
    with pytest.raises(ConfigError) as error:
        keys(config(**{key: value}))
    assert str(error.value).startswith(f'{key}: ')
    assert message in str(error.value)


@pytest.mark.parametrize('key', ['optim_wraper', 'param_schedulers', 'train_dataloaders'])
def test_misspelt_key_at_the_top(key):
    with pytest.raises(ConfigError, match=f'^{key} is no key of a config. Do you mean'):
        keys(config(**{key: {}}))


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('model.type', 'ImageClasifier', 'no model named ImageClasifier'),
        ('model.head.loss.type', 'CrossEntropy', 'Do you mean CrossEntropyLoss'),
        ('model.train_cfg.augments.0.type', 'MixUp', 'Do you mean Mixup'),
        ('train_dataloader.dataset.type', 'Imagenet', 'Do you mean ImageNet'),
        ('train_dataloader.collate_fn.type', 'collate', 'no function named collate'),
        ('optim_wrapper.optimizer.type', 'Adamw', 'Do you mean AdamW'),
        ('custom_hooks.0.type', 'FiniteLosHook', 'Do you mean FiniteLossHook'),
        # A hook is no transform, although the name is registered.
        ('train_dataloader.dataset.pipeline.0.type', 'EMAHook', 'no transform named'),
    ],
)
def test_unknown_type(key, value, message):
    with pytest.raises(ConfigError) as error:
        keys(config(**{key: value}))
    assert str(error.value).startswith(f'{key}: ')
    assert message in str(error.value)


OF_MMSEG = {
    'VisionTransformer': dict(img_size=32, patch_size=8, num_layers=1),
    'BEiT': dict(img_size=32, patch_size=8, num_layers=1, qv_bias=True),
    'MAE': dict(img_size=32, patch_size=8, num_layers=1),
    'SwinTransformer': dict(
        pretrain_img_size=32, window_size=2, depths=[1, 1], num_heads=[1, 2],
        strides=(4, 2), out_indices=(0, 1), embed_dims=16,
    ),
}  # fmt: skip


@pytest.mark.parametrize('key', ['init_cfg', 'pretrained'])
@pytest.mark.parametrize('kind', OF_MMSEG)
def test_networks_of_mmseg_that_load_themselves(tmp_path, monkeypatch, kind, key):
    """What they would leave random is said before; their own names are right."""
    monkeypatch.chdir(tmp_path)
    arguments = dict(embed_dims=16, num_heads=2)
    backbone = dict(arguments | OF_MMSEG[kind], type=kind)

    def check(path):
        weights = (
            path if key == 'pretrained' else dict(type='Pretrained', checkpoint=path)
        )
        net = dict(backbone, **{key: weights})
        cfg = Config(dict(model=dict(type='EncoderDecoder', backbone=net)))
        with DefaultScope.overwrite_default_scope('mmseg'):
            check_keys(cfg)

    with DefaultScope.overwrite_default_scope('mmseg'):
        own = MMSEG_MODELS.build(dict(backbone)).state_dict()
    # A classifier has one norm of an output only.
    own = {k: v for k, v in own.items() if 'index' not in k and 'norm0' not in k}
    torch.save(own, 'own.pth')
    torch.save(dict(state_dict=own), 'own_too.pth')
    check('own.pth')
    check('own_too.pth')
    cim = {f'enhancer.backbone.{k}': v for k, v in own.items()}
    torch.save(dict(state_dict=cim), 'cim.pth')
    torch.save({k: v for k, v in own.items() if not k.endswith('bias')}, 'half.pth')
    torch.save({k: v.repeat_interleave(2, -1) for k, v in own.items()}, 'wide.pth')
    save_file({k: v.contiguous() for k, v in own.items()}, 'plain.safetensors')
    for path in ('cim.pth', 'half.pth', 'wide.pth', 'plain.safetensors'):
        with pytest.raises(ConfigError, match=f'{path} lacks .* own {kind}.*mmpretrain'):
            check(path)
    check('https://example.org/own.pth')
    if key == 'init_cfg' and kind == 'VisionTransformer':
        net = dict(
            type='mmpretrain.VisionTransformer',
            init_cfg=dict(type='Pretrained', checkpoint='cim.pth'),
        )
        with DefaultScope.overwrite_default_scope('mmseg'):
            check_keys(Config(dict(model=dict(type='EncoderDecoder', backbone=net))))


def test_missing_pretrained_weights():
    cfg = config()
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    with pytest.raises(ConfigError, match=r'model.backbone.init_cfg.*nowhere.pth'):
        keys(cfg)
    cfg.model.backbone.init_cfg.checkpoint = 'https://example.org/a.pth'
    keys(cfg)
    cfg.model.backbone.init_cfg.pop('checkpoint')
    with pytest.raises(ConfigError, match='init_cfg.checkpoint is missing'):
        keys(cfg)


@pytest.mark.parametrize(
    'name',
    [
        'resnet/resnet50_8xb256-rsb-a3-100e_in1k.py',
        'vision_transformer/vit-base-p16_64xb64_in1k.py',
        'beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py',
        'simmim/simmim_swin-base-w6_8xb256-amp-coslr-100e_in1k-192px.py',
        'swin_transformer/swin-base_16xb64_in1k.py',
        'mae/benchmarks/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py',
        'densecl/benchmarks/resnet50_8xb32-linear-steplr-100e_in1k.py',
    ],
)
def test_configs_of_mmpretrain_are_accepted(name):
    cfg = Config.fromfile(Path(mmpretrain.__file__).parent / '.mim/configs' / name)
    for node in (cfg.model.get('backbone'), cfg.model.get('target_generator')):
        if node and isinstance(node.get('init_cfg'), dict):
            # Weights that its authors leave for the user to fill in.
            node.init_cfg.checkpoint = 'https://example.org/a.pth'
    keys(cfg)


def test_config_of_mmseg_is_accepted():
    mmseg = pytest.importorskip('mmseg')
    name = '.mim/configs/fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py'
    keys(Config.fromfile(Path(mmseg.__file__).parent / name))


def test_missing_root(data):
    cfg = config(**{'train_dataloader.dataset.data_root': 'nowhere'})
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    assert 'train_dataloader.dataset.data_root: folder nowhere' in str(error.value)
    assert 'Expected: nowhere/train/<class>/<picture>' in str(error.value)
    assert not os.path.exists('work')


def test_empty_folder(data):
    for file in data.glob('train/*/*'):
        file.unlink()
    with pytest.raises(ConfigError, match='data/train is empty: no file in its subfol'):
        check_config(config())
    # A picture beside the classes belongs to none of them ...
    Image.new('RGB', (4, 4)).save(data / 'train/1.png')
    with pytest.raises(ConfigError, match='data/train is empty'):
        check_config(config())
    # ... which does not matter without labels.
    check_config(config(**{'train_dataloader.dataset.with_label': False}))


def test_annotation_file(data):
    cfg = config(**{'train_dataloader.dataset.ann_file': 'meta/train.txt'})
    with pytest.raises(ConfigError, match='ann_file: file data/meta/train.txt does not'):
        check_config(cfg)
    (data / 'meta').mkdir()
    (data / 'meta/train.txt').write_text('a/1.JPG 0\n')
    check_config(cfg)


def test_splits_of_imagenet_are_found_as_the_class_does(data):
    options = {'train_dataloader.dataset.type': 'ImageNet'}
    options['train_dataloader.dataset.split'] = 'train'
    cfg = config(**options)
    del cfg.train_dataloader.dataset['data_prefix']
    check_config(cfg)
    cfg.train_dataloader.dataset.split = 'val'
    cfg.train_dataloader.dataset.data_root = 'data/train'
    with pytest.raises(ConfigError, match='folder data/train/val does not exist'):
        check_config(cfg)


def test_data_inside_of_other_data_sets(data):
    cfg = config()
    inner = dict(PICTURES, data_root='nowhere')
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[dict(PICTURES), dict(type='RepeatDataset', times=2, dataset=inner)],
    )
    key = 'train_dataloader.dataset.datasets.1.dataset.data_root'
    with pytest.raises(ConfigError, match=key):
        check_config(cfg)


def test_data_that_can_be_downloaded_need_not_be_there(data):
    cfg = config()
    cfg.train_dataloader.dataset = dict(
        type='CIFAR10', data_root='nowhere', split='train', pipeline=[]
    )
    check_config(cfg)
    cfg.train_dataloader.dataset.download = False
    with pytest.raises(ConfigError, match='nowhere'):
        check_config(cfg)


def test_root_that_the_command_line_has_split(data):
    cfg = config(**{'train_dataloader.dataset.data_root': ['my', 'images']})
    with pytest.raises(ConfigError, match=r"data_root: \['my', 'images'\] is not a path"):
        check_config(cfg)


def test_error_without_a_message_is_named(data):
    @DATASETS.register_module(name='Speechless', force=True)
    class Speechless(CustomDataset):
        def _join_prefix(self):
            raise AssertionError

    cfg = config(**{'train_dataloader.dataset.type': 'Speechless'})
    with pytest.raises(ConfigError, match=r'^train_dataloader.dataset: AssertionError'):
        check_config(cfg)


def test_pictures_and_masks(data):
    pytest.importorskip('mmseg')
    cfg = config(default_scope='mmseg')
    # Only the data are those of a segmentation.
    cfg.model = dict(type='mmpretrain.ImageClassifier', backbone=None)
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.pop('constructor')
    cfg.custom_hooks, cfg.default_hooks = [], {}
    cfg.train_dataloader.dataset = dict(
        type='BaseSegDataset',
        data_root='data',
        data_prefix=dict(img_path='train/a', seg_map_path='masks'),
        img_suffix='.jpg',
        pipeline=[],
    )
    cfg.train_dataloader.sampler.type = 'InfiniteSampler'
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    assert 'data_prefix.seg_map_path: folder data/masks' in str(error.value)
    assert 'data/train/a/<picture> and data/masks/<picture>' in str(error.value)
    (data / 'masks').mkdir()
    check_config(cfg)


def test_only_the_data_in_use_are_checked(data):
    cfg = config()
    loader = dict(cfg.train_dataloader, dataset=dict(PICTURES, data_root='nowhere'))
    cfg.update(test_dataloader=loader, test_cfg={}, test_evaluator=dict(type='Accuracy'))
    check_config(cfg)
    with pytest.raises(ConfigError, match='test_dataloader.dataset.data_root'):
        check_config(cfg, mode='test')


def test_what_a_mode_needs(data):
    cfg = config()
    with pytest.raises(ConfigError, match='test_dataloader is missing'):
        check_config(cfg, mode='test')
    cfg.pop('optim_wrapper')
    with pytest.raises(ConfigError, match='optim_wrapper is missing'):
        check_config(cfg)


def test_masks_of_the_pipeline_fit_the_generator(data):
    cfg = config()
    cfg.model = dict(
        type='CIM',
        masking=None,
        generator=dict(
            type='CIMGenerator',
            backbone=dict(type='FusedBEiTPretrainViT', img_size=96, patch_size=16),
            head=dict(type='MaskedTokenHead', embed_dims=768),
        ),
        enhancer=dict(type='RevDet', backbone=dict(), head=dict()),
    )
    with pytest.raises(ConfigError, match='no step of .* makes masks'):
        check_config(cfg)
    step = dict(
        type='BEiTBlockMask',
        input_size=8,
        num_masking_patches=10,
        min_num_patches=2,
    )
    cfg.train_dataloader.dataset.pipeline = [step]
    with pytest.raises(ConfigError, match='masks of 8, but .* has 6 x 6 patches'):
        check_config(cfg)
    # A list is what the command line gives.
    for grid in ((6, 6), [6, 6], 6):
        cfg.train_dataloader.dataset.pipeline[0].input_size = grid
        check_config(cfg)
    # Rows come first.
    cfg.model.generator.backbone.update(img_size=(96, 64), patch_size=[16, 8])
    with pytest.raises(ConfigError, match=r'has 6 x 8 patches; .* to \(6, 8\)'):
        check_config(cfg)
    cfg.train_dataloader.dataset.pipeline[0].input_size = (6, 8)
    check_config(cfg)


def test_work_directory_below_a_file(data):
    Path('file').write_text('')
    with pytest.raises(ConfigError, match='work_dir: file/work cannot be written'):
        check_config(config(work_dir='file/work'))


def test_checked_config_is_unchanged_and_builds(data):
    cfg = config()
    before = cfg.pretty_text
    check_config(cfg)
    assert cfg.pretty_text == before
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = Runner.build_dataloader(cfg.train_dataloader).dataset
    assert isinstance(dataset, CustomDataset)
    assert len(dataset) == 2
