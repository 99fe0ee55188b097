# Copyright (c) mmcim contributors. All rights reserved.
from copy import deepcopy

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.optim.optimizer import default_constructor
from torch import nn

from mmcim.engine import NetworkwiseOptimWrapperConstructor

NAME = 'mmpretrain.' + NetworkwiseOptimWrapperConstructor.__name__


class Network(BaseModel):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Linear(3, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.gamma = nn.Parameter(torch.ones(4))
        self.norm = nn.LayerNorm(4)
        self.fixed = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    def forward(self, x):
        return x


class Pair(BaseModel):
    def __init__(self):
        super().__init__()
        self.generator = Network()
        self.enhancer = Network()
        self.enhancer.tied = self.enhancer.patch_embed
        self.scale = nn.Linear(1, 1)

    def forward(self, x):
        return x


def build(model, optimizer='AdamW', fused=None, **paramwise_cfg):
    kwargs = {} if fused is None else dict(fused=fused)
    return build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type=optimizer, lr=1e-3, weight_decay=0.05, **kwargs),
            constructor=NAME,
            paramwise_cfg=paramwise_cfg or None,
        ),
    ).optimizer


def test_frozen_modules_are_skipped(monkeypatch):
    """mmengine would warn about each of its parameters."""
    logged = []
    monkeypatch.setattr(
        default_constructor, 'print_log', lambda text, *a, **k: logged.append(text)
    )
    model = Pair()
    model.momentum_encoder = Network().requires_grad_(False)
    build(model)
    assert not [text for text in logged if 'momentum_encoder' in text]
    # A single frozen parameter among others is still reported.
    assert [text for text in logged if 'enhancer.fixed is skipped' in text]


def groups_of(model, optimizer):
    """Parameter name -> (network, lr, weight decay)."""
    where = {}
    for group in optimizer.param_groups:
        for param in group['params']:
            assert id(param) not in where
            where[id(param)] = (
                group.get('network'),
                group['lr'],
                group['weight_decay'],
            )
    return {name: where.pop(id(param), None) for name, param in model.named_parameters()}


@pytest.mark.parametrize('network', ['generator', 'enhancer'])
def test_parameter_groups(network):
    model = Pair()
    groups = groups_of(model, build(model))
    decayed, not_decayed = (network, 1e-3, 0.05), (network, 1e-3, 0.0)
    assert {
        name.removeprefix(f'{network}.'): group
        for name, group in groups.items()
        if name.startswith(network)
    } == {
        'patch_embed.weight': decayed,
        'patch_embed.bias': not_decayed,
        'cls_token': not_decayed,
        'pos_embed': not_decayed,
        'gamma': not_decayed,
        'norm.weight': not_decayed,
        'norm.bias': not_decayed,
        # As in BEiT.
        'mask_token': decayed,
        'relative_position_bias_table': decayed,
        # Frozen.
        'fixed': None,
    }


def test_parameters_outside_submodels():
    model = Pair()
    groups = groups_of(model, build(model))
    assert groups['scale.weight'] == (None, 1e-3, 0.05)
    assert groups['scale.bias'] == (None, 1e-3, 0.0)


def test_groups_are_merged():
    """Two per network and two for the rest, instead of one per parameter."""
    optimizer = build(Pair())
    assert len(optimizer.param_groups) == 6
    # 9 with a gradient in each network, and weight and bias of the scale.
    assert sum(len(group['params']) for group in optimizer.param_groups) == 20


def test_nested_modules_are_not_submodels():
    """A generator alone, or a classifier, is clipped as a whole."""
    optimizer = build(Network())
    assert [group.get('network') for group in optimizer.param_groups] == [None, None]


def test_paramwise_cfg_of_mmengine():
    model = Pair()
    options = dict(
        custom_keys={
            'generator': dict(lr_mult=0.1),
            'enhancer.mask_token': dict(decay_mult=0.0),
        }
    )
    groups = groups_of(model, build(model, **options))
    assert groups['generator.patch_embed.weight'] == ('generator', 1e-4, 0.05)
    assert groups['generator.patch_embed.bias'] == ('generator', 1e-4, 0.0)
    assert groups['enhancer.patch_embed.weight'] == ('enhancer', 1e-3, 0.05)
    assert groups['enhancer.mask_token'] == ('enhancer', 1e-3, 0.0)


def test_step_matches_one_group_per_parameter():
    """Grouping does not change the step."""
    torch.manual_seed(0)
    model, other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), None
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    other.load_state_dict(model.state_dict())
    single = torch.optim.AdamW(
        [
            dict(params=[p], weight_decay=0.05 if p.ndim > 1 else 0.0)
            for p in other.parameters()
        ],
        lr=1e-3,
    )
    grouped = build(model)
    for _ in range(3):
        x = torch.randn(5, 3)
        for network, optimizer in ((model, grouped), (other, single)):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def take_steps(model, optimizer, steps=3):
    for step in range(steps):
        torch.manual_seed(step)
        for param in model.parameters():
            param.grad = torch.randn_like(param) if param.requires_grad else None
        optimizer.step()


@pytest.mark.parametrize('name', ['AdamW', 'Adam', 'SGD', torch.optim.AdamW])
def test_fused_steps_are_those_of_plain_ones(name):
    models = Network(), Network()
    models[1].load_state_dict(models[0].state_dict())
    for model, fused in zip(models, (None, False)):
        optimizer = build(model, name, fused)
        assert {group['fused'] for group in optimizer.param_groups} == {fused is None}
        take_steps(model, optimizer)
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(a, b)


def test_others_are_built_as_they_are():
    optimizer = build(Network(), 'Lamb')
    assert not any('fused' in group for group in optimizer.param_groups)


@pytest.mark.parametrize('fused', [False, True])
def test_loaded_optimizer_computes_as_this_run_does(fused):
    """Whatever the checkpoint's did; moments, learning rates and decay are loaded."""
    models = Network(), Network()
    first = build(models[0], fused=not fused)
    take_steps(models[0], first)
    models[1].load_state_dict(models[0].state_dict())
    first.param_groups[0]['lr'] = 0.5
    second = build(models[1], fused=fused)
    second.load_state_dict(deepcopy(first.state_dict()))
    assert {group['fused'] for group in second.param_groups} == {fused}
    assert second.param_groups[0]['lr'] == 0.5
    for model, optimizer in zip(models, (first, second)):
        take_steps(model, optimizer)
    for a, b in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('fused', [False, True])
def test_loaded_state_has_the_layout_of_the_parameters(fused):
    """A training goes on with channels last, or without, as it would have otherwise."""
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(3, 4, 3)
    x = torch.randn(2, 3, 8, 8)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()

    first = build(plain, fused=fused)
    step(plain, first)
    other = deepcopy(plain).to(memory_format=torch.channels_last)
    second = build(other, fused=fused)
    second.load_state_dict(deepcopy(first.state_dict()))
    for model, optimizer in ((plain, first), (other, second)):
        for _ in range(3):
            step(model, optimizer)
    torch.testing.assert_close(plain.weight, other.weight.contiguous())
