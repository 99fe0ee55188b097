# Copyright (c) mmcim contributors. All rights reserved.
"""torch.compile on every pre-training, at the size of the quickstart."""

from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS, RUNNERS
from torch._dynamo.utils import counters

from mmcim.cli.synthetic import synthetic_batch
from mmcim.engine.compiling import compile_networks

from ..models.selfsup.conftest import GreyTokenizer  # noqa: F401
from .test_watch import METHODS, config_of

PRE_TRAINING = [name for name in METHODS if name != 'tokenizer']


def load(name):
    """A quickstart config with two layers and a tokenizer that needs no file."""
    cfg = config_of(name)
    model = cfg.model
    if 'tokenizer' in model:
        model.tokenizer = dict(type='GreyTokenizer')
        (model.generator if 'generator' in model else model).head.vocab_size = 16
    for owner in (model, model.get('enhancer', {}), model.get('generator', {})):
        if 'arch' in owner.get('backbone', {}):
            owner.backbone.arch = {**owner.backbone.arch, 'num_layers': 2}
    if name == 'beit':  # a graph of fewer rectangles
        model.masking = {**model.get('masking', dict(type='BlockMasking'))}
        model.masking['max_proposals'] = 4
    return cfg


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize('name', PRE_TRAINING)
def test_loss_is_one_graph(name):
    cfg = load(name)
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    model.init_weights()
    inputs = model.data_preprocessor(synthetic_batch(cfg, 4), training=True)['inputs']
    model.train().loss(inputs)  # a tokenizer looks at its first batch
    compile_networks(model, dict(backend='eager'))  # makes drop path rates floats
    found, state = {}, deepcopy(model.state_dict())
    for loss in (model.loss, torch.compile(model.loss, backend='eager', fullgraph=True)):
        torch.manual_seed(1)
        model.load_state_dict(state)
        model.zero_grad()
        losses = loss(inputs)
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        grads = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        found[loss] = {**losses, **grads}
    plain, compiled = found.values()
    assert plain.keys() == compiled.keys()
    assert all(plain[key].equal(compiled[key]) for key in plain)


class SecondEpoch(Hook):
    """Counts graphs, and lets every recompilation after the first epoch fail."""

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            self.graphs = counters['stats']['unique_graphs']
            torch.compiler.set_stance('fail_on_recompile')

    def after_train(self, runner):
        torch.compiler.set_stance('default')


@pytest.mark.slow
@pytest.mark.parametrize('name', ['cim_respix', 'conmim'])
def test_compiled_training_equals_plain_one(name, tmp_path):
    weights = []
    for compile in (False, dict(backend='eager', fullgraph=True)):
        cfg = load(name)
        cfg.merge_from_dict(
            {
                'work_dir': str(tmp_path / str(bool(compile))),
                'train_cfg': dict(_delete_=True, by_epoch=True, max_epochs=2),
                'train_dataloader.sampler.type': 'DefaultSampler',
                'train_dataloader.batch_size': 32,
                'train_dataloader.dataset.indices': 64,
                'param_scheduler': None,
                'compile': compile,
                'randomness.seed': 0,
                'experiment_name': f'{tmp_path.name}_{bool(compile)}',
            }
        )
        runner = RUNNERS.get(cfg.runner_type).from_cfg(cfg)
        second = SecondEpoch()
        runner.register_hook(second)
        runner.train()
        weights.append(runner.model.state_dict())
    assert second.graphs >= 3  # backbone, momentum encoder or enhancer, neck
    plain, compiled = weights
    assert plain.keys() == compiled.keys()
    assert all(plain[key].equal(compiled[key]) for key in plain)
