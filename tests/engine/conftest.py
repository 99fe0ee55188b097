# Copyright (c) mmcim contributors. All rights reserved.
"""A minimal run."""

import random

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mmcim.engine import StrictRunner


class Numbers(Dataset):
    """Eight numbers, each its own target."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        value = torch.tensor([float(index)])
        # Draws of a transform, by all three generators.
        noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1) + 0.1 * torch.randn(1)
        return dict(inputs=value + noise, target=value)


class Line(BaseModel):
    """A linear function with noise on its input."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, inputs, target, mode):
        if mode != 'loss':
            return [self.line(inputs)]
        noisy = inputs + torch.randn_like(inputs)
        return dict(loss=(self.line(noisy) - target).square().mean())


class Scores(BaseMetric):
    """A metric that returns prepared scores and draws random numbers."""

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        torch.rand(3)
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(score=next(self.scores))


@pytest.fixture
def make_runner(tmp_path):
    """Build a runner in ``tmp_path``: ``make_runner(hooks, epochs=2, ...)``."""
    count = iter(range(100))

    def make(hooks=(), checkpoint=None, model=None, scores=None, **kwargs):
        loader = dict(
            dataset=Numbers(),
            sampler=dict(type=kwargs.pop('sampler', 'DefaultSampler'), shuffle=True),
            **kwargs.pop('workers', {}),
            collate_fn=dict(type='default_collate'),
            batch_size=kwargs.pop('batch_size', 4),
        )
        if scores is not None:
            kwargs.update(
                val_dataloader=dict(loader),
                val_evaluator=Evaluator(Scores(scores)),
                val_cfg=dict(),
            )
        # What StrictRunner reads in the config itself.
        names = ['override', 'compile', 'strategy', 'model_wrapper_cfg']
        names += ['activation_checkpointing', 'channels_last']
        cfg = {name: kwargs.pop(name) for name in names if name in kwargs}
        torch.manual_seed(0)
        kwargs.setdefault('train_cfg', dict(by_epoch=True, max_epochs=2))
        kwargs.setdefault('randomness', dict(seed=0))
        return StrictRunner(
            model=model or Line(),
            work_dir=str(kwargs.pop('work_dir', tmp_path)),
            train_dataloader=loader,
            optim_wrapper=kwargs.pop(
                'optim_wrapper', dict(optimizer=dict(type='SGD', lr=0.01))
            ),
            default_hooks=dict(
                runtime_info=kwargs.pop('runtime_info', dict(type='DeferredInfoHook')),
                checkpoint=checkpoint or dict(type='SafeCheckpointHook', interval=1),
            ),
            custom_hooks=list(hooks),
            default_scope='mmpretrain',
            log_level='WARNING',
            experiment_name=f'{tmp_path.name}_{next(count)}',
            cfg=cfg,
            **kwargs,
        )

    return make
