# Copyright (c) mmcim contributors. All rights reserved.
"""The counted costs of a step against what one counts by hand."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmcim.models.tokenizers.dalle import _Decoder, _Encoder
from mmcim.utils import ConfigError
from tools.analysis_tools.method_costs import (
    CountMacs,
    FusedAttention,
    attend,
    count_step,
    main,
)

from .toy_run import REPO

QUICKSTART = REPO / 'configs/quickstart'


class Stack(BaseModel):
    """Two linear layers that learn, and one that is only asked."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.second = nn.Linear(16, 4)
        self.teacher = nn.Linear(8, 4, bias=False).requires_grad_(False)

    def forward(self, inputs, mode):
        with torch.no_grad():
            target = self.teacher(inputs)
        # What is dropped is not kept for the backward pass.
        self.second(self.first(inputs).sin()).cos()
        return dict(loss=(self.second(self.first(inputs).relu()) - target).sum())


def test_linear_layers():
    cost = count_step(Stack(), dict(inputs=torch.randn(5, 8)), batch_size=5)
    layers = 8 * 16, 16 * 4
    assert cost.learning == 2 * sum(layers)
    assert cost.frozen == 8 * 4
    # The weights' gradients, and that of the hidden layer.
    assert cost.backward == sum(layers) + layers[1]
    # The input, and the hidden layer, which the second layer and the ReLU share.
    assert cost.saved == 4 * (8 + 16)
    assert cost.trainable == sum(layers) + 16 + 4
    assert cost.fixed == 32


TOKENS, WIDTH, DEPTH, HIDDEN, PATCH = 1 + 16, 32, 3, 64, 4
VIT = dict(
    type='VisionTransformer',
    arch=dict(
        embed_dims=WIDTH, num_layers=DEPTH, num_heads=2, feedforward_channels=HIDDEN
    ),
    img_size=16,
    patch_size=PATCH,
)


def vit_macs(with_attention=True):
    """Of a ViT's forward pass, by hand: projections, attention, patches."""
    linear = TOKENS * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN)
    attention = 2 * TOKENS**2 * WIDTH * with_attention
    return DEPTH * (linear + attention) + (TOKENS - 1) * 3 * PATCH**2 * WIDTH


class Pictures(BaseModel):
    """A ViT whose class token is its loss."""

    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(VIT)

    def forward(self, inputs, mode):
        return dict(loss=self.backbone(inputs)[-1].sum())


def test_vision_transformer():
    cost = count_step(Pictures(), dict(inputs=torch.randn(2, 3, 16, 16)), batch_size=2)
    assert cost.learning == vit_macs()
    assert cost.frozen == 0
    # Twice the forward pass; the scores are computed again; pictures need no gradient.
    again = DEPTH * TOKENS**2 * WIDTH
    patches = (TOKENS - 1) * 3 * PATCH**2 * WIDTH
    assert cost.backward == 2 * vit_macs() + again - patches


def test_the_counter_agrees_with_that_of_torch():
    model, inputs = Pictures(), torch.randn(2, 3, 16, 16)
    loss = model(inputs, mode='loss')['loss']
    with CountMacs() as ours:
        loss.backward(retain_graph=True)
    with FlopCounterMode(display=False) as theirs:
        loss.backward()
    assert 2 * ours.total == theirs.get_total_flops() > 0
    # Which does not know attention on a CPU.
    with FlopCounterMode(display=False) as theirs:
        model(inputs, mode='loss')
    assert theirs.get_total_flops() == 2 * 2 * vit_macs(with_attention=False)


@pytest.mark.parametrize('biased', [False, True])
def test_attention_is_that_of_torch(biased):
    def leaf(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    torch.manual_seed(0)
    query, key, value = leaf(2, 3, 5, 4), leaf(2, 3, 7, 4), leaf(2, 3, 7, 6)
    bias = leaf(1, 3, 5, 7) if biased else None
    leaves = [x for x in (query, key, value, bias) if x is not None]
    weight = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    results = []
    for function in (attend, F.scaled_dot_product_attention):
        out = function(query, key, value, attn_mask=bias, scale=0.3)
        results.append([out, *torch.autograd.grad((out * weight).sum(), leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('gradient', [False, True])
def test_attention_is_frozen_only_without_a_gradient(gradient):
    query = torch.randn(1, 2, 3, 4, requires_grad=True)
    counter = CountMacs()
    with torch.set_grad_enabled(gradient), counter, FusedAttention(counter):
        F.scaled_dot_product_attention(query, query, query)
    assert counter.total == 2 * 2 * 3 * 3 * 4
    assert counter.without_gradient == (0 if gradient else counter.total)


def test_networks_of_full_size():
    """The known sizes of a ViT-B/16 at 224 px and of OpenAI's dVAE at 112 px."""
    with torch.device('meta'):
        vit = MODELS.build(dict(type='VisionTransformer', arch='deit-base'))
        encoder = _Encoder(n_hid=256, n_blocks=2, vocab_size=8192)
        decoder = _Decoder(n_hid=256, n_blocks=2, vocab_size=8192, n_init=128)
        decoder.simplify()
        runs = dict(
            vit=lambda: vit(torch.empty(1, 3, 224, 224)),
            encoder=lambda: encoder.logits(
                encoder(torch.empty(1, 3, 112, 112), torch.float32)
            ),
            decoder=lambda: decoder(
                torch.zeros(1, 14, 14, dtype=torch.int64), torch.float32
            ),
        )
        found = {}
        for name, run in runs.items():
            counter = CountMacs()
            with torch.no_grad(), counter, FusedAttention(counter):
                run()
            found[name] = counter.total / 1e9
    assert found == pytest.approx(dict(vit=17.5, encoder=26.1, decoder=24.6), abs=0.1)


NAMES = (
    'cim_respix',
    'cim_revdet',
    'beit',
    'mae',
    'conmim',
    'corrim',
    'mocov3',
    'finetune',
)


@pytest.fixture(scope='module')
def quickstart(tmp_path_factory):
    """Counted where no quickstart has run: neither tokenizer nor backbone is there."""
    paths = {name: str(QUICKSTART / f'{name}.py') for name in NAMES}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp('empty'))
        costs = main([*paths.values(), '--batch-size', '3'])
    return SimpleNamespace(**{name: costs[path] for name, path in paths.items()})


def test_methods(quickstart):
    """Their order by cost, and what is frozen in each."""
    q = quickstart
    for cost in vars(q).values():
        assert cost.trainable > 0 and cost.saved > 0
        # A layer costs twice as much backward, but for the first one; attention more.
        assert 1.5 < cost.backward / cost.learning < 2.3
    # Full pictures go through ViTs of the same width and depth: one, two, four times.
    assert q.mae.learning < q.finetune.learning < q.mocov3.learning
    assert q.mae.saved < q.finetune.saved < q.mocov3.saved
    # A momentum encoder costs what it copies, projector included.
    for method in (q.conmim, q.mocov3):
        assert method.frozen == pytest.approx(method.learning, rel=0.05)
    assert q.conmim.fixed == q.conmim.trainable
    # CIM's tokenizer encodes and decodes, BEiT's encodes; it is the same one.
    assert q.cim_respix.frozen == q.cim_revdet.frozen > q.beit.frozen > 0
    assert q.mae.frozen == q.finetune.frozen == 0


def test_the_table(capsys):
    main([str(QUICKSTART / 'mae.py'), '--cfg-options', 'model.backbone.mask_ratio=0.5'])
    head, row = capsys.readouterr().out.splitlines()[-2:]
    assert head.split('  ')[0] == 'config'
    name, *cells = row.split()
    assert name == 'quickstart/mae' and len(cells) == 7
    learning, frozen, backward, step, *_ = map(float, cells)
    assert frozen == 0
    assert step == pytest.approx(learning + backward, abs=0.002)


BAD = {
    'batch': ([QUICKSTART / 'mae.py', '--batch-size', '1'], 'at least 2'),
    'segmentor': ([QUICKSTART / 'segmentation.py'], 'neither a pre-training nor'),
    'missing': ([QUICKSTART / 'nowhere.py'], 'nowhere.py does not exist'),
    'misspelt': (
        [QUICKSTART / 'mae.py', '--cfg-options', 'model.neck.depht=2'],
        'model.neck.depht',
    ),
    'tokenizer': (
        [
            QUICKSTART / 'beit.py', '--cfg-options',
            'model.tokenizer.type=VQVAETokenizer',
        ],
        'model.tokenizer',
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', BAD)
def test_bad_input(name):
    arguments, message = BAD[name]
    with pytest.raises(ConfigError, match=message):
        main([str(argument) for argument in arguments])
