# Copyright (c) mmcim contributors. All rights reserved.
"""The Siamese baselines against explicit formulas of their losses."""

import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS, RUNNERS

from mmcim.checkpoints import load_checkpoint

from ...engine.test_watch import tiny
from .siamese_models import BACKBONE, CONFIGS
from .test_baselines import build

MOMENTUM = [name for name in CONFIGS if name in ('mocov3', 'byol', 'mocov2')]
QUEUES = ['mocov2', 'swav']


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    images, second = torch.randn(2, 4, 3, 32, 32)
    local = torch.randn(4, 3, 3, 16, 16)  # of SwAV
    return dict(images=images, second_crops=second, local_crops=local)


def embeddings(model, inputs, owner=None):
    """Of both crops. Batch norms in training do not use their running statistics."""
    owner = owner or model
    crops = inputs['images'], inputs['second_crops']
    return [owner.neck(owner.backbone(crop))[0] for crop in crops]


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


def loss_of(model, inputs):
    return model(inputs, mode='loss')['loss']


def assert_same(model, loss, expected):
    """Value, and gradients of projector and head: a backbone's amplify rounding."""
    torch.testing.assert_close(loss, expected)
    params = [*model.neck.parameters(), *model.head.parameters()]
    found, plain = (torch.autograd.grad(x, params) for x in (loss, expected))
    for grad, other in zip(found, plain):
        torch.testing.assert_close(grad, other, atol=1e-5, rtol=1e-3)


def test_simclr_loss(inputs):
    model = build(CONFIGS['simclr'])
    loss = loss_of(model, inputs)
    z = unit(torch.cat(embeddings(model, inputs)))
    expected = 0
    for i in range(8):
        other = (i + 4) % 8
        scores = {j: torch.exp(z[i] @ z[j] / 0.1) for j in range(8) if j != i}
        expected -= torch.log(scores[other] / sum(scores.values())) / 8
    assert_same(model, loss, expected)


def negative_cosines(model, own, target):
    """Between predictions of the one crop and, without gradient, the other."""
    cosines = []
    for crop, other in ((0, 1), (1, 0)):
        p = unit(model.head.predictor([own[crop]])[0])
        z = unit(target[other].detach())
        cosines.append(-sum(p[i] @ z[i] for i in range(4)) / 4)
    return cosines


def test_simsiam_loss(inputs):
    model = build(CONFIGS['simsiam'])
    loss = loss_of(model, inputs)
    own = embeddings(model, inputs)
    first, second = negative_cosines(model, own, own)
    assert_same(model, loss, (first + second) / 2)


def test_barlow_twins_loss(inputs):
    model = build(CONFIGS['barlowtwins'])
    loss = loss_of(model, inputs)
    a, b = (
        (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
        for z in embeddings(model, inputs)
    )
    expected = 0
    for i in range(8):
        for j in range(8):
            c = sum(a[k, i] * b[k, j] for k in range(4)) / 4
            expected += (1 - c) ** 2 if i == j else 0.1 * c**2
    assert_same(model, loss, expected)


def test_byol_loss(inputs):
    """2 - 2 cos, which is the squared distance of unit vectors, of both directions."""
    model = build(CONFIGS['byol'])
    loss = loss_of(model, inputs)
    own = embeddings(model, inputs)
    target = embeddings(model, inputs, model.momentum_encoder)
    first, second = negative_cosines(model, own, target)
    assert_same(model, loss, (2 + 2 * first) + (2 + 2 * second))


def test_moco_v2_loss_and_queue(inputs):
    model = build(CONFIGS['mocov2'])
    queue = model.queue.clone()
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(10))
    for batch in range(3):
        loss = loss_of(model, inputs)
        q = unit(embeddings(model, inputs)[0])
        k = unit(embeddings(model, inputs, model.momentum_encoder)[1]).detach()
        expected = 0
        for i in range(4):
            positive = torch.exp(q[i] @ k[i] / 0.2)
            negatives = sum(torch.exp(q[i] @ queue[j] / 0.2) for j in range(10))
            expected -= torch.log(positive / (positive + negatives)) / 4
        assert_same(model, loss, expected)
        # First in, first out, also where 10 is no multiple of 4.
        queue = torch.stack([*k, *queue][:10])
        torch.testing.assert_close(model.queue, queue)
        inputs = {name: crop.flip(0) + batch for name, crop in inputs.items()}


def sinkhorn(scores):
    """The codes of (B, K) scores, as in the paper's appendix."""
    num, prototypes = scores.shape
    codes = [[math.exp(s / 0.05) for s in row] for row in scores.tolist()]
    total = sum(map(sum, codes))
    codes = [[c / total for c in row] for row in codes]
    for _ in range(3):
        for k in range(prototypes):
            mass = sum(row[k] for row in codes)
            for row in codes:
                row[k] /= mass * prototypes
        for row in codes:
            mass = sum(row)
            row[:] = [c / mass / num for c in row]
    return torch.tensor([[c * num for c in row] for row in codes])


def swav_embeddings(model, inputs):
    """Of two global and three local crops, with one projector for all."""
    both = torch.cat([inputs['images'], inputs['second_crops']])
    local = torch.cat([inputs['local_crops'][:, n] for n in range(3)])
    features = [model.backbone(crops)[0].mean(dim=(2, 3)) for crops in (both, local)]
    return unit(model.neck.projection_neck(torch.cat(features))).unflatten(0, (5, 4))


def test_swav_loss_and_queue(inputs):
    """The queue begins with the second batch, and is full after the third."""
    model = build(CONFIGS['swav'])
    prototypes = model.head.loss_module.prototypes.weight
    queues = [torch.zeros(0, 8), torch.zeros(0, 8)]
    for batch in range(5):
        with torch.no_grad():
            prototypes.mul_(3)  # their length does not matter
        loss = loss_of(model, inputs)
        weight = prototypes.clone() if batch == 0 else prototypes  # frozen at first
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(5))
        z = swav_embeddings(model, inputs)
        expected = 0
        for crop in (0, 1):
            known = queues[crop] if len(queues[crop]) == 8 else queues[crop][:0]
            codes = sinkhorn(torch.cat([z[crop], known]) @ weight.T)
            for other in {0, 1, 2, 3, 4} - {crop}:
                for i in range(4):
                    scores = weight @ z[other][i] / 0.1
                    for j in range(5):
                        p = torch.exp(scores[j]) / torch.exp(scores).sum()
                        expected -= codes[i, j] * torch.log(p) / 4 / 4 / 2
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        (grad,) = torch.autograd.grad(loss, prototypes)
        assert grad.any() == (batch > 0)
        if batch > 0:
            queues = [
                torch.cat([crop.detach(), queue])[:8] for crop, queue in zip(z, queues)
            ]
        inputs = {name: crop.flip(0) + batch for name, crop in inputs.items()}
    assert len(queues[0]) == 8
    torch.testing.assert_close(model.queue, torch.stack(queues))


@pytest.mark.parametrize('name', CONFIGS)
def test_evaluation_changes_nothing(name, inputs):
    model = build(CONFIGS[name]).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert loss_of(model, inputs).isfinite()
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize('name', CONFIGS)
def test_losses_are_computed_in_float32(name, inputs):
    model = build(CONFIGS[name])
    seen = []
    for part in (model.head, *model.head.modules()):
        part.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert loss_of(model, inputs).dtype == torch.float32
    tensors = [x[0] if isinstance(x, list | tuple) else x for x in seen]
    assert tensors and all(x.dtype == torch.float32 for x in tensors)


@pytest.mark.parametrize('name', CONFIGS)
def test_only_the_momentum_encoder_has_no_gradient(name, inputs):
    model = build(CONFIGS[name])
    for _ in range(2):  # SwAV's prototypes learn from the second batch on
        loss_of(model, inputs).backward()
    for key, param in model.named_parameters():
        assert (param.grad is None) == key.startswith('momentum_encoder'), key
    own = hasattr(model, 'momentum_encoder')
    assert own == (name in MOMENTUM)
    assert not any('target_net' in k or 'encoder_k' in k for k in model.state_dict())


def step(model, inputs, counts=1):
    """An optimizer step of accumulated batches."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
        optim = build_optim_wrapper(model, wrapper | dict(accumulative_counts=counts))
    model.data_preprocessor = torch.nn.Identity()
    for _ in range(counts):
        with optim.optim_context(model):
            loss = loss_of(model, inputs)
        optim.update_params(loss)


@pytest.mark.parametrize('name', MOMENTUM)
def test_momentum_encoder_moves_once_per_optimizer_step(name, inputs):
    model = build(CONFIGS[name] | dict(momentum=0.9, end_momentum=0.9))
    start = {k: p.clone() for k, p in model.momentum_encoder.named_parameters()}
    assert all(p.equal(model.get_parameter(k)) for k, p in start.items())
    step(model, inputs, counts=2)
    for key, param in model.momentum_encoder.named_parameters():
        assert param.equal(start[key]), key
    model.momentum_encoder.update(model, 0, num_steps=10)
    for key, param in model.momentum_encoder.named_parameters():
        expected = 0.9 * start[key] + 0.1 * model.get_parameter(key)
        torch.testing.assert_close(param, expected, msg=key)


def run(name, work_dir, checkpoint=None):
    """Four iterations on digits, or the rest after a checkpoint."""
    cfg = tiny(f'resnet_{name}', work_dir)
    cfg.merge_from_dict(
        {
            'train_cfg.max_iters': 4,
            'default_hooks.checkpoint.interval': 2,
            'default_hooks.checkpoint.max_keep_ckpts': -1,
        }
    )
    cfg.default_hooks.pop('watch')
    cfg.resume, cfg.load_from = checkpoint is not None, checkpoint
    torch.manual_seed(7 if checkpoint else 3)
    runner = RUNNERS.build(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize('name', QUEUES)
def test_queue_is_in_the_checkpoint_and_resumed(name, tmp_path):
    run(name, tmp_path / 'whole')
    middle = tmp_path / 'whole/iter_2.pth'
    run(name, tmp_path / 'resumed', str(middle))
    assert not (tmp_path / 'resumed/iter_2.pth').exists()
    whole, resumed = (
        load_checkpoint(tmp_path / folder / 'iter_4.pth')['state_dict']
        for folder in ('whole', 'resumed')
    )
    middle = load_checkpoint(middle)['state_dict']
    assert not whole['queue'].equal(middle['queue'])
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert value.equal(resumed[key]), key


@pytest.mark.parametrize('name', ['simclr', 'mocov2'])
def test_exported_backbone_drops_into_a_classifier(name, tmp_path):
    model = run(name, tmp_path).model
    path = str(tmp_path / 'iter_4_backbone.safetensors')
    classifier = dict(
        type='ImageClassifier',
        backbone=BACKBONE | dict(init_cfg=dict(type='Pretrained', checkpoint=path)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(classifier)
        classifier.init_weights()
    trained = model.backbone.state_dict()
    for key, value in classifier.backbone.state_dict().items():
        assert value.equal(trained[key]), key
