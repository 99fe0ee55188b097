# Copyright (c) mmcim contributors. All rights reserved.
"""Errors in configs, found when a runner is built; see also tests/cli."""

import re
from pathlib import Path

import mmpretrain
import mmseg.datasets  # noqa: F401
import pytest
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.registry import RUNNERS, DefaultScope, Registry
from mmpretrain.registry import HOOKS, MODELS
from PIL import Image
from torch import nn

from mmcim.checkpoints import Pretrained
from mmcim.utils import (
    BuildError,
    ConfigError,
    building,
    check_keys,
    explain_build_errors,
)
from mmcim.utils.building import check_arguments

IMAGES = dict(
    type='CustomDataset',
    data_root='data',
    data_prefix='train',
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=32),
        dict(type='PackInputs'),
    ],
)
LOADER = dict(
    dataset=IMAGES,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    batch_size=2,
)


def config(**changes):
    cfg = Config(
        dict(
            runner_type='StrictRunner',
            default_scope='mmpretrain',
            work_dir='work',
            log_level='WARNING',
            model=dict(
                type='ImageClassifier',
                data_preprocessor=dict(num_classes=2),
                backbone=dict(
                    type='ResNet',
                    depth=18,
                    base_channels=4,
                    stem_channels=4,
                    norm_cfg=dict(type='BN', requires_grad=True),
                    init_cfg=[dict(type='Kaiming', layer=['Conv2d'])],
                ),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(
                    type='LinearClsHead',
                    num_classes=2,
                    in_channels=32,
                    loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
                    topk=1,
                ),
                train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]),
            ),
            train_dataloader=LOADER,
            train_cfg=dict(by_epoch=True, max_epochs=2),
            val_dataloader=dict(
                LOADER, dataset=dict(IMAGES, data_prefix='val'), batch_size=1
            ),
            val_cfg=dict(),
            val_evaluator=dict(type='Accuracy', topk=1),
            test_dataloader=dict(LOADER, dataset=dict(IMAGES, data_prefix='val')),
            test_cfg=dict(),
            test_evaluator=[dict(type='Accuracy', topk=1)],
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
            custom_hooks=[dict(type='BackboneExportHook', priority='NORMAL')],
            randomness=dict(seed=0, diff_rank_seed=True),
            my_own_variable=1,
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Two classes with an image each, for training and validation."""
    monkeypatch.chdir(tmp_path)
    scopes = DefaultScope._instance_dict.copy()
    monkeypatch.setattr(DefaultScope, '_instance_dict', scopes)
    # The slowest part of building a runner.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    monkeypatch.setattr(Config, 'pretty_text', '')
    for split in ('train', 'val'):
        for name in 'ab':
            folder = Path('data', split, name)
            folder.mkdir(parents=True)
            Image.new('RGB', (4, 4)).save(folder / '1.JPG', 'JPEG')
    return Path('data')


def train(**changes):
    """As tools/train.py of mmpretrain does."""
    cfg = config(**changes)
    cfg.experiment_name = f'run_{id(cfg)}'
    RUNNERS.build(cfg).train()


def message(**changes):
    with pytest.raises(ConfigError) as error:
        train(**changes)
    return str(error.value)


def test_valid_config_has_no_warning(warnings):
    train()
    assert warnings == []
    assert Path('work/epoch_2.pth').is_file()


@pytest.mark.parametrize(
    ('key', 'value', 'text'),
    [
        ('model.backbone.dept', 18, 'ResNet has no argument'),
        ('model.backbon.depth', 18, 'ImageClassifier has no argument'),
        ('model.head.loss.weight', 1, 'CrossEntropyLoss has no argument'),
        ('model.backbone.norm_cfg.epsilon', 1, 'BatchNorm2d has no argument'),
        ('model.train_cfg.augments.0.alhpa', 1, "Mixup has no argument 'alhpa'. Did you"),
        (
            'model.backbone.init_cfg.0.laeyr',
            1,
            "KaimingInit has no argument 'laeyr'. Did",
        ),
        ('train_dataloader.sampler.suffle', 1, "Did you mean 'shuffle'?"),
        ('train_dataloader.batchsize', 1, 'DataLoader has no argument'),
        ('train_dataloader.dataset.with_labels', 1, "Did you mean 'with_label'?"),
        ('train_dataloader.dataset.pipeline.0.colour', 1, 'LoadImageFromFile has no'),
        ('val_dataloader.dataset.pipeline.1.scales', 1, "Did you mean 'scale'?"),
        (
            'train_cfg.max_epoch',
            1,
            "has no argument 'max_epoch'. Did you mean 'max_epochs'?",
        ),
        ('val_cfg.fp61', True, 'ValLoop has no argument'),
        (
            'val_evaluator.topks',
            1,
            "Accuracy has no argument 'topks'. Did you mean 'topk'",
        ),
        (
            'optim_wrapper.paramwise_cfg.custom_key',
            {},
            "only ['bias_decay_mult', 'bias_l",
        ),
        ('optim_wrapper.accumulative_count', 1, "Did you mean 'accumulative_counts'?"),
        ('optim_wrapper.optimizer.beta', 1, "AdamW has no argument 'beta'. Did you mean"),
        ('param_scheduler.0.start_facto', 1, "LinearLR has no argument 'start_facto'"),
        ('param_scheduler.1.etamin', 1, "CosineAnnealingLR has no argument 'etamin'"),
        ('default_hooks.checkpoint.intervall', 1, "SafeCheckpointHook has no argument '"),
        ('custom_hooks.0.intervall', 1, 'BackboneExportHook has no argument'),
        ('randomness.sead', 1, 'set_randomness has no argument'),
    ],
)
def test_misspelt_key_raises(key, value, text):
    found = message(**{key: value})
    name = key.removesuffix('.depth').removesuffix('.paramwise_cfg.custom_key')
    assert found.startswith(f'{name}: ')
    assert text in found
    assert '\n' not in found


def test_misspelt_function_argument_raises():
    """A function registered under another name."""
    few = dict(type='FewLabels', dataset=dict(IMAGES), num_per_clas=1)
    found = message(**{'train_dataloader.dataset': ConfigDict(_delete_=True, **few)})
    assert found.startswith('train_dataloader.dataset.num_per_clas: ')
    assert "Did you mean 'num_per_class'?" in found


@pytest.mark.parametrize('key', ['optim_wraper', 'param_schedulers', 'train_dataloaders'])
def test_misspelt_top_level_key_raises(key):
    assert message(**{key: {}}).startswith(f"Unknown config key '{key}'. Did you mean '")


@pytest.mark.parametrize('key', ['data', 'lr_config', 'runner', 'total_epochs'])
def test_keys_of_mmcls_0_raise(key):
    text = f'{key} is a key of mmcls 0.x, which nothing reads; see '
    assert message(**{key: dict(samples_per_gpu=32)}).startswith(text)


@pytest.mark.parametrize(
    ('key', 'text'),
    [
        ('default_hooks.chekpoint', "no such hook. Did you mean 'checkpoint'?"),
        ('test_dataloader.collate_ffn', "Did you mean 'collate_fn'?"),
        ('test_dataloader.dataset.pipeline.1.scael', "Did you mean 'scale'?"),
        ('env_cfg.cuudnn_benchmark', "has no argument 'cuudnn_benchmark'"),
        ('env_cfg.dist_cfg.bakend', "Did you mean 'backend'?"),
        ('env_cfg.dist_cfg.timeoout', "Did you mean 'timeout'?"),
        ('test_dataloader.sampler.zoom', "DefaultSampler has no argument 'zoom'."),
    ],
)
def test_misspelt_key_of_what_is_not_built_raises(key, text):
    found = message(**{key: dict(type='LoggerHook')})
    assert found.startswith(f'{key}: ') and text in found


def test_misspelt_type_raises():
    cfg = config()
    cfg.test_dataloader.dataset.pipeline[1] = dict(tyep='Resize', scale=8)
    text = "test_dataloader.dataset.pipeline.1.tyep: Did you mean 'type'"
    with pytest.raises(BuildError, match=text):
        check_arguments(cfg)


def test_new_top_level_names_are_allowed():
    check_keys(
        config(num_classes=3, sizes=[1], train_pipeline=[], data=dict(data_root='x'))
    )


@pytest.mark.parametrize('key', ['model', 'train_cfg', 'optim_wrapper', 'val_evaluator'])
def test_missing_key_raises(key):
    found = message(**{key: None})
    assert found == 'model is missing in the config' or key != 'model'
    assert key in found and '\n' not in found


@pytest.mark.parametrize(
    ('key', 'value', 'text'),
    [
        (
            'model',
            'ImageClasifier',
            "there is no type 'ImageClasifier'. Did you mean 'ImageClassifier'?",
        ),
        ('model.head.loss', 'mmpose.CrossEntropyLoss', 'Install mmpose.'),
        ('model.head.loss', 'CrossEntropy', "Did you mean 'CrossEntropyLoss'?"),
        ('model.train_cfg.augments.0', 'Mixups', "Did you mean 'Mixup'?"),
        ('train_dataloader.dataset', 'Imagenet', "Did you mean 'ImageNet'?"),
        ('optim_wrapper', 'AutoAmpWrapper', "Did you mean 'AutoAmpOptimWrapper'?"),
        ('optim_wrapper.optimizer', 'Adamw', "Did you mean 'AdamW'?"),
        ('custom_hooks.0', 'BackboneExportHok', "Did you mean 'BackboneExportHook'?"),
        # A hook is no transform, although the name is registered.
        (
            'train_dataloader.dataset.pipeline.0',
            'EMAHook',
            "'EMAHook is not in the mmpretrain::transform registry.",
        ),
    ],
)
def test_unknown_type_raises(key, value, text):
    found = message(**{f'{key}.type': value})
    assert found.startswith(f'{key}: ')
    assert text in found


@pytest.mark.parametrize('kind', ['FusedBEiTViT', 'LayerDecayOptimWrapperConstructor'])
def test_type_of_another_scope_is_suggested(kind):
    """mmpretrain's classes need their scope in a config of mmseg."""
    cfg = dict(default_scope='mmseg', model=dict(type=kind))
    with pytest.raises(BuildError, match=rf"Did you mean 'mmpretrain\.{kind}'\?"):
        check_arguments(cfg)


@pytest.mark.parametrize('kind', ['mmpretrain.BEiTViT', 'torch.nn.Linear', 'qkv'])
def test_types_of_libraries_and_of_no_class_pass(kind):
    """The last is what a LoRA model adapts."""
    check_arguments(dict(default_scope='mmseg', model=dict(type=kind)))


@pytest.mark.parametrize(
    ('key', 'value', 'text'),
    [
        ('model.head.num_classes', 0, 'LinearClsHead: num_classes=0 must be a positive'),
        ('model.backbone.depth', 17, 'ResNet: KeyError: '),
        ('optim_wrapper.optimizer.lr', -1, 'Invalid learning rate: -1'),
    ],
)
def test_constructor_error_names_the_key(key, value, text):
    found = message(**{key: value})
    assert found.startswith(key.rsplit('.', 1)[0].removesuffix('.optimizer'))
    assert text in found


def test_default_scope_is_one_whose_pretrained_is_strict():
    """That of mmengine leaves random what it does not find."""
    for registry in (mmpretrain.registry, mmseg.registry):
        assert registry.WEIGHT_INITIALIZERS.scope in building.SCOPES
        assert registry.WEIGHT_INITIALIZERS.get('Pretrained') is Pretrained
    for scope in ('mmengine', None):
        text = message(default_scope=scope)
        assert text.startswith('default_scope must be mmpretrain or mmseg')


# --------------------------------------------------------------------------------------
# Classes with **kwargs


class Swallows(BaseModule):
    def __init__(self, width=1, **kwargs):
        super().__init__()


class Reads(BaseModule):
    def __init__(self, width=1, **kwargs):
        self.depth = kwargs.pop('depth', 1)
        super().__init__(**kwargs)


class Delegates(nn.Module):
    """Its keyword arguments are forwarded, as those of RandomResize."""

    def __init__(self, width=1, **kwargs):
        super().__init__()
        self.inner = dict(**kwargs)


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(building, 'print_log', lambda text, **_: found.append(text))
    return found


def build(cls, **arguments):
    cfg = dict(model=dict(part=dict(type=cls, **arguments)))
    building.check_arguments(cfg)
    return MODELS.build(cfg['model']['part'])


@pytest.mark.parametrize('cls', [Swallows, Reads, Delegates])
def test_close_misspelling_in_kwargs_raises(cls):
    with pytest.raises(ConfigError) as error:
        build(cls, wdith=2)
    assert str(error.value) == (
        f"model.part.wdith: {cls.__name__} has no argument 'wdith'. Did you mean 'width'?"
    )


def test_unknown_key_in_kwargs_warns(warnings):
    build(Swallows, depth=2)
    assert build(Reads, depth=2).depth == 2
    for cls, warning in zip(('Swallows', 'Reads'), warnings, strict=True):
        assert warning.startswith(f"model.part.depth: {cls} has no argument 'depth'.")


def test_forwarded_kwargs_do_not_warn(warnings):
    assert build(Delegates, depth=2).inner == dict(depth=2)
    assert warnings == []


def test_transforms_of_torchvision_pass(warnings):
    affine = dict(type='torchvision/RandomAffine', degrees=10, translate=(0.1, 0.1))
    dataset = dict(pipeline=[affine])
    building.check_arguments(dict(train_dataloader=dict(dataset=dataset)))
    assert warnings == []


def test_parts_in_a_list_are_checked():
    cfg = dict(model=[dict(type=Swallows), dict(type=Swallows, widht=1)])
    with pytest.raises(ConfigError, match=r'^model\.1\.widht: Swallows has no argument'):
        building.check_arguments(cfg)


# --------------------------------------------------------------------------------------
# The context


def test_registries_are_unchanged():
    """Other threads may build at the same time."""
    seen = []

    @MODELS.register_module(name='Looks', force=True)
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            seen.append((Registry.build, Registry.get, MODELS.build_func))

    cfg = config(**{'model.neck': None})
    cfg.model.neck = dict(type='Looks')
    RUNNERS.build(cfg)
    assert seen == [(Registry.build, Registry.get, MODELS.build_func)]
    assert Registry.build.__module__ == 'mmengine.registry.registry'


def test_training_errors_are_not_rewritten():
    @HOOKS.register_module(name='Fails', force=True)
    class Fails(Hook):
        def before_train_iter(self, *args, **kwargs):
            raise ValueError('in training')

    with pytest.raises(ValueError, match='^in training$') as error:
        train(custom_hooks=[dict(type='Fails')])
    assert error.type is ValueError


def test_error_is_explained_once():
    cfg = dict(model=dict(type='LinearClsHead', num_classes=0, in_channels=2))
    with (
        pytest.raises(BuildError) as error,
        explain_build_errors({}, 'outer'),
        explain_build_errors(cfg),
    ):
        MODELS.build(cfg['model'])
    assert str(error.value).startswith('model: LinearClsHead: num_classes=0')


# --------------------------------------------------------------------------------------
# Data


def test_missing_data_root_raises():
    found = message(**{'train_dataloader.dataset.data_root': 'nowhere'})
    assert found.startswith('train_dataloader.dataset: CustomDataset: ')
    cause, given = found.split(' (below ')
    assert cause.endswith("'nowhere/train'")
    assert given == f"{Path.cwd()}: data_root='nowhere', data_prefix='train')"
    assert not list(Path('work').glob('*.pth'))


def test_missing_validation_data_stop_before_training():
    found = message(**{'val_dataloader.dataset.data_prefix': 'nowhere'})
    assert found.startswith('val_dataloader.dataset: CustomDataset: ')
    assert not list(Path('work').glob('*.pth'))


def test_only_used_dataloaders_are_checked():
    cfg = config(**{'test_dataloader.dataset.data_root': 'nowhere'})
    runner = RUNNERS.build(cfg)
    runner.train()
    with pytest.raises(ConfigError, match='^test_dataloader.dataset: .*nowhere/val'):
        runner.test()


def test_error_names_dataloader_in_use():
    """Test and validation often use the same data."""
    cfg = config(**{'test_dataloader.dataset.data_root': 'nowhere'})
    cfg.val_dataloader = cfg.test_dataloader
    with pytest.raises(ConfigError, match='^test_dataloader.dataset: '):
        RUNNERS.build(cfg).test()


def test_data_root_split_by_command_line():
    found = message(**{'train_dataloader.dataset.data_root': ['my', 'images']})
    assert found.startswith('train_dataloader.dataset: CustomDataset: AssertionError ')
    assert "['my', 'images']" in found


def test_datasets_without_files_need_no_root():
    cfg = config()
    cfg.train_dataloader.dataset = dict(type='Digits', split='tain', pipeline=[])
    with pytest.raises(ConfigError, match=r"Digits: split must be .* not 'tain'$"):
        RUNNERS.build(cfg).train()


def test_empty_folder_raises(data):
    for file in data.glob('train/*/*'):
        file.unlink()
    found = message()
    assert found.startswith('train_dataloader.dataset: CustomDataset: ')
    assert 'Found 0 files' in found and 'data/train' in found and '.png' in found
    # An image outside the class folders belongs to no class ...
    Image.new('RGB', (4, 4)).save(data / 'train/1.png')
    assert 'Found 0 files' in message()


def test_missing_annotation_file_raises(data):
    found = message(**{'train_dataloader.dataset.ann_file': 'train.txt'})
    assert found.startswith('train_dataloader.dataset: CustomDataset: ')
    cause, given = found.split(' (below ')
    assert 'data/train.txt' in cause
    assert given.endswith("data_prefix='train', ann_file='train.txt')")
    (data / 'train.txt').write_text('a/1.JPG 0\nb/1.JPG 1\n')
    train(**{'train_dataloader.dataset.ann_file': 'train.txt'})


def test_wrapped_datasets_are_checked():
    inner = dict(IMAGES, data_root='nowhere')
    cfg = config()
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset',
        datasets=[dict(IMAGES), dict(type='RepeatDataset', times=2, dataset=inner)],
    )
    key = r'train_dataloader\.dataset\.datasets\.1\.dataset: CustomDataset: .*nowhere'
    with pytest.raises(ConfigError, match=f'^{key}'):
        RUNNERS.build(cfg).train()


def test_missing_segmentation_maps_raise(data):
    dataset = dict(
        type='mmseg.BaseSegDataset',
        data_root='data',
        data_prefix=dict(img_path='train/a', seg_map_path='masks'),
        img_suffix='.JPG',
        pipeline=[],
    )
    cfg = config()
    cfg.train_dataloader.update(dataset=dataset, batch_size=1)
    message = r"^train_dataloader.dataset: cannot read the mask 'data/masks/1.png'"
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(cfg).train()
    (data / 'masks').mkdir()
    cfg.train_dataloader.dataset['img_suffix'] = '.png'
    with pytest.raises(ConfigError, match='BaseSegDataset: .*data_prefix='):
        RUNNERS.build(cfg).train()


def test_work_dir_below_file_raises():
    Path('file').write_text('')
    found = message(work_dir='file/work')
    assert re.fullmatch(r"\[Errno 20\] Not a directory: '.*/file/work'", found)


# --------------------------------------------------------------------------------------
# Configs of mmpretrain


@pytest.mark.parametrize(
    'name',
    [
        'vision_transformer/vit-base-p16_64xb64_in1k.py',
        'beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py',
        'mae/benchmarks/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py',
    ],
)
def test_mmpretrain_configs_have_no_warning(name, warnings):
    cfg = Config.fromfile(Path(mmpretrain.__file__).parent / '.mim/configs' / name)
    building.check_arguments(cfg)
    assert warnings == []


def test_longer_names_are_not_misspellings():
    """Arguments of timm.create_model."""
    config = dict(type='mmpretrain.TIMMBackbone', model_name='resnet18')
    config['pretrained_cfg'] = dict(mean=(0.5, 0.5, 0.5))
    building.check_arguments(dict(model=config))


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('train_cfg.max_epochs', 0),
        ('train_cfg.val_interval', -1),
        ('default_hooks.checkpoint.interval', 0),
        ('optim_wrapper.accumulative_counts', -2),
        ('model.data_preprocessor.img_size', (224, 0)),
        ('train_dataloader.batch_size', 0),
    ],
)
def test_zero_and_negative_sizes_are_refused(key, value):
    cfg = config(**{key: value})
    with pytest.raises(BuildError, match=f'{key}.* has to be positive'):
        check_arguments(cfg)


@pytest.mark.parametrize(
    ('part', 'problem'),
    [
        (
            dict(type='DevicePreprocessor', flip_prob=1.5),
            r'flip_prob is 1.5, .* \[0, 1\]',
        ),
        (dict(type='StrongAugment', grey_prob=-0.1), r'grey_prob is -0.1, .* \[0, 1\]'),
        (dict(type='ConMIM', end_momentum=1.1), r'end_momentum is 1.1, .* \[0, 1\]'),
        (dict(type='CIMGenerator', temperature=0), 'temperature is 0, .* positive'),
        (
            dict(type='DiscreteVAETrainer', temperature=(1.0, 0.0)),
            'temperature.1 is 0.0,',
        ),
    ],
)
def test_numbers_out_of_the_range_of_their_name_are_refused(part, problem):
    with pytest.raises(BuildError, match=f'^model.{problem}'):
        check_arguments(dict(model=part))


def test_hook_without_interval_and_sizes_that_are_none_pass():
    check_arguments(config(**{'default_hooks.checkpoint.interval': -1}))
    arguments = dict(pretrained_window_sizes=[0, 0, 0, 0])
    check_arguments(dict(model=dict(type='SwinTransformerV2', **arguments)))
