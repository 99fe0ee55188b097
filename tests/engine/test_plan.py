# Copyright (c) mmcim contributors. All rights reserved.
"""Settings that each are right, and together not what anybody means."""

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.hooks import EarlyStoppingHook
from mmpretrain.evaluation import Accuracy
from mmpretrain.models.heads import LinearClsHead
from PIL import Image
from torch import nn

from mmcim.engine.plan import check_plan, softmax_of_one
from mmcim.utils import ConfigError

COSINE = dict(type='CosineAnnealingLR', by_epoch=False)  # of a run of 4 iterations
EPOCHS = dict(type='CosineAnnealingLR', by_epoch=True)
WARM_UP = dict(type='LinearLR', start_factor=0.1, by_epoch=False)
ITERATIONS = dict(train_cfg=dict(by_epoch=False, max_iters=4))

FITTING = dict(
    none=None,
    filled_in=COSINE,
    epochs=EPOCHS,
    converted=dict(EPOCHS, convert_to_iter_based=True),
    warm_up_alone=dict(WARM_UP, end=2),
    both=[dict(WARM_UP, end=2), dict(COSINE, begin=2)],
    chain=[dict(COSINE, end=3), dict(type='ConstantLR', begin=3, by_epoch=False)],
    constant=[dict(type='ConstantLR', end=2, by_epoch=False), COSINE],
    pieces=[dict(WARM_UP, end=2), COSINE],
    decay=dict(WARM_UP, start_factor=1.0, end_factor=0.1),
    steps=dict(type='MultiStepLR', milestones=[1], by_epoch=True),
)


@pytest.mark.parametrize('name', FITTING)
def test_schedule_that_ends_with_training_passes(make_runner, name):
    make_runner(param_scheduler=FITTING[name]).train()


SCHEDULES = dict(
    too_long=(dict(COSINE, end=8), 'ends at 8, but training at 4: leave out'),
    too_short=(dict(COSINE, end=2), 'ends at 2, but training at 4: leave out'),
    epochs=(dict(EPOCHS, end=3), 'ends at 3, but training at 2'),
    period=(dict(COSINE, T_max=2), 'ends at 2, but training at 4'),
    milestones=(
        dict(type='MultiStepLR', milestones=[1, 7], by_epoch=True),
        'MultiStepLR.*its last step at 7 of 2: lower milestones',
    ),
    warm_up=(dict(WARM_UP, end=4), 'warms up until 4 of 4 iterations: lower its end'),
    warm_up_without_end=(WARM_UP, 'param_scheduler.0 .*warms up'),
    second=(
        [dict(WARM_UP, end=2), dict(COSINE, begin=2, end=6)],
        'param_scheduler.1 .*6',
    ),
)


@pytest.mark.parametrize('name', SCHEDULES)
def test_schedule_that_does_not_end_with_training_is_refused(make_runner, name):
    schedule, message = SCHEDULES[name]
    with pytest.raises(ConfigError, match=message):
        make_runner(param_scheduler=schedule).train()


def test_schedule_of_epochs_in_a_training_of_iterations_is_refused(make_runner):
    """It would never take a step."""
    with pytest.raises(ConfigError, match='counts epochs.* set by_epoch=False'):
        make_runner(**ITERATIONS, param_scheduler=EPOCHS).train()


def test_fewer_images_than_a_batch_are_refused(make_runner):
    with pytest.raises(ConfigError, match='8 images, fewer than a batch of 9'):
        make_runner(batch_size=9, workers=dict(drop_last=True)).train()
    make_runner(batch_size=9).train()  # whose batch is smaller


def test_endless_sampler_fills_a_batch_from_fewer_images(make_runner):
    endless = dict(**ITERATIONS, sampler='InfiniteSampler')
    make_runner(batch_size=9, workers=dict(drop_last=True), **endless).train()


CLASSES = dict(
    fitting=(3, {}, (1,), None),
    top5=(3, {}, (1, 5), r'val_evaluator.topk=\(1, 5\) of 3 classes: set'),
    head=(4, {}, (1,), 'model.head.num_classes is 4, but train_dataloader has 3'),
    loss=(3, dict(loss=4), (1,), 'model.head.loss.num_classes is 4'),
    mixup=(3, dict(mixed=4), (1,), 'data_preprocessor.num_classes is 4'),
    no_mixup=(3, dict(unmixed=1000), (1,), None),
    backbone=(3, dict(backbone=1000), (1,), None),
)


@pytest.mark.parametrize('name', CLASSES)
def test_numbers_of_classes_agree(make_runner, name):
    head, others, topk, message = CLASSES[name]

    def counting(number, **kwargs):
        module = nn.Identity()
        module.__dict__.update(num_classes=number, **kwargs)
        return module

    runner = make_runner(scores=[1])
    model = runner.model
    model.head = counting(head)
    model.head.loss = counting(others.get('loss'))
    model.backbone = counting(others.get('backbone'))
    mixes = 'mixed' in others
    number = others.get('mixed', others.get('unmixed'))
    model.data_preprocessor = counting(number, to_onehot=mixes)
    for mode in ('train', 'val'):
        loop = getattr(runner, f'build_{mode}_loop')(getattr(runner, f'_{mode}_loop'))
        loop.dataloader.dataset.metainfo = dict(classes=('a', 'b', 'c'))
        setattr(runner, f'_{mode}_loop', loop)
    runner._val_loop.evaluator = Evaluator(Accuracy(topk=topk))
    runner.param_schedulers = None
    data = dict(images_per_iteration=4, dataset=dict(size=8))
    runner.record = dict(train_dataloader=data)
    if message is None:
        check_plan(runner)
    else:
        with pytest.raises(ConfigError, match=message):
            check_plan(runner)


@pytest.mark.parametrize('num_classes', [1, 2])
@pytest.mark.parametrize('use_sigmoid', [False, True])
def test_softmax_of_one_class_is_a_problem(num_classes, use_sigmoid):
    model = nn.Module()
    loss = dict(type='CrossEntropyLoss', use_sigmoid=use_sigmoid)
    model.head = LinearClsHead(num_classes, 4, loss=loss)
    problems = [*softmax_of_one(model)]
    assert len(problems) == (num_classes == 1 and not use_sigmoid)
    assert all('model.head has one class' in text for text in problems)


@pytest.mark.parametrize('name', ['score', 'scores'])
@pytest.mark.parametrize('waiting', ['save_best', 'early stopping'])
def test_missing_metric_raises_before_training(make_runner, waiting, name):
    checkpoint = dict(type='SafeCheckpointHook', save_best=name, rule='greater')
    stopping = EarlyStoppingHook(name, rule='greater')
    is_best = waiting == 'save_best'
    runner = make_runner(
        () if is_best else [stopping], checkpoint if is_best else None, scores=[0.1, 0.2]
    )
    if name == 'score':
        runner.train()
    else:
        with pytest.raises(ConfigError, match="'scores', .* gives score. Did you mean"):
            runner.train()
        assert runner.iter == 0


class Images(BaseDataset):
    """Image files that stand for numbers."""

    def load_data_list(self):
        return [dict(img_path=path) for path in self.ann_file.split(':')]

    def prepare_data(self, idx):
        return self.numbers[idx]


@pytest.mark.parametrize('mode', ['train', 'val'])
def test_data_are_looked_at_before_training(make_runner, tmp_path, mode):
    """A broken image in training is skipped; in validation it would change the metric."""
    paths = [str(tmp_path / f'{i}.png') for i in range(8)]
    for path in paths:
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    (tmp_path / '5.png').write_bytes(b'no image')
    runner = make_runner(scores=[1, 2], work_dir=tmp_path / 'work')
    loader = getattr(runner, f'_{mode}_dataloader')
    images = Images(ann_file=':'.join(paths), serialize_data=False)
    images.numbers = loader['dataset']
    loader['dataset'] = images
    if mode == 'train':
        runner.train()
        return
    with pytest.raises(ConfigError, match=r'val_dataloader.dataset: 1 of 8 .*/5\.png'):
        runner.train()
