# Copyright (c) mmcim contributors. All rights reserved.
"""Recomputed layers: the same numbers, of every kind of encoder, and fewer tensors."""

import copy
import pickle

import pytest
import torch
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from torch import nn

from mmcim.checkpoints import load_checkpoint
from mmcim.engine.activation_checkpointing import checkpoint_activations
from mmcim.models.layers.momentum import MomentumEncoder
from mmcim.utils import ConfigError

from ..goldens import methods

# Of each kind of encoder one method, what of it is recomputed, and how many layers.
ENCODERS = dict(
    cim_respix_vit=(['enhancer.backbone', 'generator.backbone'], 4),
    cim_revdet_resnet=(['enhancer.backbone'], 8),
    conmim_bias_per_layer=(['backbone', 'momentum_encoder.backbone'], 2),
    corrim_vit=(['backbone'], 2),
    mae=(['backbone', 'neck'], 3),
    mocov3=(['backbone'], 2),
    timm_vit=(['backbone'], 12),
    timm_resnet=(['backbone.timm_model.layer1', 'backbone'], 8),
)
TIMM = dict(timm_vit='vit_tiny_patch16_224', timm_resnet='resnet18')


def build(name):
    torch.manual_seed(0)
    if name in TIMM:
        backbone = dict(type='TIMMBackbone', model_name=TIMM[name], in_channels=3)
        backbone |= dict(drop_path_rate=0.3, init_cfg=None)
        model = MODELS.build(backbone)
        return nn.ModuleDict(dict(backbone=model)).train()
    config = copy.deepcopy(methods.CONFIGS[name])
    for part in (config, config.get('enhancer', {}), config.get('generator', {})):
        if 'arch' in part.get('backbone', {}):
            part['backbone'].update(drop_rate=0.1, drop_path_rate=0.3)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def losses_of(model, name):
    if name in TIMM:
        images = (
            torch.rand(2, 3, 224, 224) if name == 'timm_vit' else torch.rand(4, 3, 64, 64)
        )
        return dict(loss=model['backbone'](images)[-1].square().mean())
    if name == 'corrim_vit':
        inputs = methods.exemplar_inputs()
        floats = {k: v.float() for k, v in inputs.items() if v.is_floating_point()}
        return model.loss(inputs | floats)
    batch = methods.two_crops() if name == 'mocov3' else methods.plain_batch()
    return model.loss(model.data_preprocessor(batch, True)['inputs'])


def step(model, name):
    """Losses, gradients and the state after a forward and a backward pass."""
    torch.manual_seed(1)
    losses = losses_of(model, name)
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    drawn = dict(next_random_number=torch.rand(1))
    return {**losses, **{f'grad of {n}': g for n, g in grads.items()}} | (
        {**model.state_dict(), **drawn}
    )


@pytest.mark.parametrize('name', ENCODERS)
def test_numbers_and_names_are_those_without(name):
    """Bit for bit, with dropout and drop path, and the statistics of batch norms."""
    names, num_layers = ENCODERS[name]
    model = build(name)
    recomputing = copy.deepcopy(model)
    checkpoint_activations(recomputing, names)
    calls = []
    for module in recomputing.modules():
        if 'forward' in vars(module) and not _in_momentum_encoder(recomputing, module):
            norm = next(m for m in module.modules() if not any(m.children()))
            norm.register_forward_pre_hook(lambda *_: calls.append(1))
    expected, found = step(model, name), step(recomputing, name)
    assert len(calls) >= 2 * num_layers
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(value, found[key]), key
    for kind in ('modules', 'parameters', 'buffers'):
        lists = [dict(getattr(m, f'named_{kind}')()) for m in (model, recomputing)]
        assert [*lists[0]] == [*lists[1]]


def _in_momentum_encoder(model, module):
    encoder = getattr(model, 'momentum_encoder', None)
    return encoder is not None and any(module is m for m in encoder.modules())


def transformer(num_layers=2, **kwargs):
    arch = dict(embed_dims=16, num_layers=num_layers, num_heads=2)
    arch |= dict(feedforward_channels=32)
    kwargs = dict(type='VisionTransformer', arch=arch) | kwargs
    return MODELS.build(dict(img_size=32, patch_size=8, **kwargs))


def count_calls(module):
    calls = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_recomputes_only_where_there_is_something_to_save():
    model = nn.ModuleDict(dict(backbone=transformer()))
    checkpoint_activations(model, 'backbone')
    calls, images = (
        count_calls(model['backbone'].layers[0].attn),
        torch.rand(2, 3, 32, 32),
    )
    model['backbone'](images)[0].sum().backward()
    assert len(calls) == 2
    with torch.no_grad():
        model['backbone'](images)
    assert len(calls) == 3
    model.eval()['backbone'](images)[0].sum().backward()
    assert len(calls) == 4


def test_saves_inputs_of_layers_alone():
    def saved(model):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.numel()) or t, lambda t: t
        ):
            model['backbone'](torch.rand(8, 3, 32, 32))[0].sum()
        return sum(sizes)

    stored = nn.ModuleDict(dict(backbone=transformer(6)))
    recomputing = copy.deepcopy(stored)
    checkpoint_activations(recomputing, 'backbone')
    assert saved(recomputing) < 0.2 * saved(stored)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize('duplicate', [copy.deepcopy, pickled])
def test_copies_are_independent(duplicate):
    """As an EMA of weights makes them."""
    model = nn.ModuleDict(dict(backbone=transformer()))
    checkpoint_activations(model, 'backbone')
    other = duplicate(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    tokens = other['backbone'](torch.rand(2, 3, 32, 32))[0]
    assert tokens.std() > 0.1
    tokens.square().sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert other['backbone'].layers[0].attn.qkv.weight.grad.abs().sum() > 0


def test_momentum_encoder_made_afterwards_is_independent():
    model = nn.ModuleDict(dict(backbone=transformer()))
    checkpoint_activations(model, 'backbone')
    model.momentum_encoder = MomentumEncoder(nn.Module(), ())
    model.momentum_encoder.add_module('backbone', copy.deepcopy(model['backbone']))
    calls = count_calls(model['backbone'].layers[0])
    with torch.no_grad():
        model.momentum_encoder.backbone(torch.rand(2, 3, 32, 32))
    assert not calls


def test_compiles_to_one_graph():
    backbone = transformer(type='FusedBEiTViT', out_type='raw', layer_scale_init_value=1)
    model = nn.ModuleDict(dict(backbone=backbone))
    checkpoint_activations(model, 'backbone')
    compiled = torch.compile(model['backbone'], backend='aot_eager', fullgraph=True)
    images = torch.rand(2, 3, 32, 32)
    grads = []
    for forward in (model['backbone'], compiled):
        model.zero_grad()
        forward(images)[0].square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (
            'enhancer.backbon',
            "the model has no 'enhancer.backbon'. Did you mean 'enhancer.backbone'?",
        ),
        ('enhancer.neck', "'enhancer.neck' has no repeated layers to recompute"),
    ],
)
def test_wrong_names_raise(name, message):
    with pytest.raises(ValueError) as caught:
        checkpoint_activations(build('cim_respix_vit'), ['generator.backbone', name])
    assert str(caught.value) == message


class Classifier(BaseModel):
    """A transformer that regresses one number."""

    def __init__(self):
        super().__init__()
        self.backbone = transformer()
        self.fc = nn.Linear(16, 1)

    def forward(self, inputs, target, mode):
        images = inputs[:, :, None, None].expand(-1, 3, 32, 32)
        return dict(loss=(self.fc(self.backbone(images)[0]) - target).square().mean())


def test_runs_and_resumes_to_the_same_weights(make_runner, tmp_path):
    """With the key, without it, and resumed with it from a checkpoint without it."""
    states = []
    settings = dict(activation_checkpointing=['backbone'])
    first = str(tmp_path / 'stored/epoch_1.pth')
    for folder, cfg, kwargs in (
        ('stored', {}, {}),
        ('recomputed', settings, {}),
        ('resumed', settings, dict(resume=True, load_from=first)),
    ):
        torch.manual_seed(0)
        work_dir = str(tmp_path / folder)
        make_runner(model=Classifier(), work_dir=work_dir, **cfg, **kwargs).train()
        states.append(load_checkpoint(f'{work_dir}/epoch_2.pth')['state_dict'])
    for other in states[1:]:
        assert states[0].keys() == other.keys()
        assert all(torch.equal(states[0][name], other[name]) for name in other)
    dumped = next((tmp_path / 'recomputed').rglob('*.py')).read_text()
    assert "activation_checkpointing = [\n    'backbone',\n]" in dumped
    saved = load_checkpoint(tmp_path / 'recomputed/epoch_2.pth')['meta']['cfg']
    assert 'activation_checkpointing' in saved


def test_layers_with_batch_norms_stay_out_of_compiled_graphs():
    torch.manual_seed(0)
    plain = MODELS.build(dict(type='mmpretrain.ResNet', depth=18))
    plain.train()
    recomputed = copy.deepcopy(plain)
    checkpoint_activations(recomputed, ['layer1', 'layer2'])
    recomputed.compile(backend='eager')
    x, found = torch.randn(2, 3, 32, 32), []
    for model in (plain, recomputed):
        model(x)[0].square().sum().backward()
        found.append([*(p.grad for p in model.parameters()), *model.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_runner_names_the_key(make_runner):
    with pytest.raises(
        ConfigError, match="^activation_checkpointing: the model has no 'a'"
    ):
        make_runner(activation_checkpointing=['a']).train()
