# Copyright (c) mmcim contributors. All rights reserved.
import math
import uuid

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader

import mmcim  # noqa: F401
from mmcim.models.selfsup.discrete_vae import gumbel_softmax, kl_to_uniform, psnr
from mmcim.models.tokenizers import DiscreteVAE

SIZES = dict(stride=4, vocab_size=24, width=16, depth=1, code_dims=8)


@pytest.fixture(autouse=True)
def hub():
    """A separate message hub for each test, as each run has."""
    return MessageHub.get_instance(f'test-{uuid.uuid4()}')


def at(hub, iteration, total):
    hub.update_info('iter', iteration)
    hub.update_info('max_iters', total)


def config(**kwargs):
    sizes = {key: kwargs.pop(key, value) for key, value in SIZES.items()}
    backbone = dict(type='DiscreteVAENet', **sizes)
    return dict(type='DiscreteVAETrainer', backbone=backbone, **kwargs)


def build(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(config(**kwargs))


def digits():
    """Real handwritten digits, (1797, 3, 32, 32) in [0, 1]."""
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    return F.interpolate(images, size=32, mode='bilinear').expand(-1, 3, -1, -1)


def inputs():
    return {'tokenizer_images': digits()[:8]}


def test_gumbel_softmax_matches_definition():
    logits = torch.randn(2, 5, 3, 4)
    torch.manual_seed(1)
    sample = gumbel_softmax(logits, 0.7)
    torch.manual_seed(1)
    gumbel = -torch.empty_like(logits).exponential_().log()
    expected = ((logits + gumbel) / 0.7).exp()
    torch.testing.assert_close(sample, expected / expected.sum(1, keepdim=True))


def test_gumbel_softmax_samples_from_softmax():
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5])
    many = logits[None, :, None, None].expand(1, 4, 200, 200)
    torch.manual_seed(0)
    sample = gumbel_softmax(many, 0.01)
    frequencies = sample.mean((0, 2, 3))
    # Four standard errors of a frequency of 1/2 in 40,000 draws.
    torch.testing.assert_close(frequencies, logits.softmax(0), rtol=0, atol=0.01)
    assert sample.amax(1).mean() > 0.99
    assert not ((sample > 0) & (sample < torch.finfo(torch.float32).tiny)).any()


def test_kl_to_uniform_in_closed_form():
    q = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
    expected = (q * (q / (1 / 3)).log()).sum(1).mean()
    logits = q.log().t()[None, :, :, None] + 5
    torch.testing.assert_close(kl_to_uniform(logits), expected)
    assert kl_to_uniform(torch.zeros(1, 7, 2, 2)) == pytest.approx(0, abs=1e-6)
    certain = torch.tensor([100.0, 0, 0, 0])[None, :, None, None]
    assert kl_to_uniform(certain) == pytest.approx(math.log(4))


def test_psnr_in_closed_form():
    originals = torch.full((3, 3, 4, 4), 0.5)
    images = originals + torch.tensor([0.1, 0.01, 0.0])[:, None, None, None]
    expected = torch.tensor([20.0, 40.0, 100.0])
    torch.testing.assert_close(psnr(images, originals), expected, rtol=0, atol=1e-3)


def test_losses_match_definition(hub):
    model = build(kl_weight=(0.3, 0.1))
    at(hub, 0, 100)
    images = inputs()['tokenizer_images']
    torch.manual_seed(1)
    losses = model.loss(inputs())

    network = model.backbone
    with torch.no_grad():
        logits = network(images)
        torch.manual_seed(1)
        sample = gumbel_softmax(logits, 2.0)
        codes = torch.einsum('bvhw,vc->bchw', sample, network.codebook.weight)
        error = network.decode(codes) - images
        probabilities = logits.softmax(1)
        kl = (probabilities * (probabilities * 24).log()).sum(1).mean()
        likely = logits.argmax(1)
        restored = network.decode(network.embed(likely)).clamp(0, 1)
        mse = (restored - images).square().mean((1, 2, 3))
    torch.testing.assert_close(losses['loss_recon'].detach(), (error**2).mean())
    torch.testing.assert_close(losses['loss_kl'].detach(), 0.3 * kl)
    torch.testing.assert_close(losses['psnr'], (10 * (1 / mse).log10()).mean())
    assert losses['codes_used'] == len(likely.unique())
    assert losses['temperature'] == 2


def test_only_losses_are_summed():
    model = build(kl_weight=(0.3, 0.3))
    losses = model.loss(inputs())
    total, log_vars = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss_recon'] + losses['loss_kl'])
    assert set(log_vars) == {
        'loss', 'loss_recon', 'loss_kl', 'psnr', 'codes_used', 'temperature'
    }  # fmt: skip


@pytest.mark.parametrize('name', ['temperature', 'kl_weight'])
def test_schedule_matches_closed_form(hub, name):
    model = build(**{name: (2.0, 0.5)}, anneal=0.8)
    kl = kl_to_uniform(model.backbone(inputs()['tokenizer_images']))
    for iteration in (0, 10, 40, 79, 80, 99):
        at(hub, iteration, 100)
        losses = model.loss(inputs())
        value = losses['temperature'] if name == 'temperature' else losses['loss_kl'] / kl
        cosine = math.cos(math.pi * min(iteration / 80, 1))
        assert value.item() == pytest.approx(0.5 + 1.5 * (1 + cosine) / 2, rel=1e-4)


def test_kl_weight_schedule(hub):
    model = build(kl_weight=(0.0, 1.0), anneal=0.5)
    at(hub, 0, 100)
    assert model.loss(inputs())['loss_kl'] == 0
    at(hub, 25, 100)
    half = model.loss(inputs())['loss_kl']
    at(hub, 50, 100)
    whole = model.loss(inputs())['loss_kl']
    assert whole.item() == pytest.approx(2 * half.item())


def test_codes_used_counts_over_a_window(hub):
    model = build(vocab_size=4, usage_window=10)
    last = model.backbone.encoder[-1]
    torch.nn.init.zeros_(last.weight)
    used = []
    for iteration, code in [(0, 0), (1, 1), (2, 1), (10, 2), (11, 2), (30, 3)]:
        at(hub, iteration, 100)
        last.bias.data.copy_(5 * F.one_hot(torch.tensor(code), 4))
        used.append(model.loss(inputs())['codes_used'].item())
    # Code 0 was last seen at 0, so it is out at 10; code 1 (at 2) still in at 11.
    assert used == [1, 2, 2, 2, 2, 1]


def use(model, *codes):
    """Let a model count these codes, one in each iteration."""
    last = model.backbone.encoder[-1]
    torch.nn.init.zeros_(last.weight)
    for code in codes:
        last.bias.data.copy_(5 * F.one_hot(torch.tensor(code), model.backbone.vocab_size))
        used = model.loss(inputs())['codes_used'].item()
    return used


def test_code_usage_survives_a_resume_but_not_into_a_test(hub):
    model, resumed = build(vocab_size=4), build(vocab_size=4)
    at(hub, 5, 100)
    assert use(model, 0, 1, 2) == 3
    resumed.load_state_dict(model.state_dict())
    assert use(resumed.eval(), 3) == 1
    assert use(resumed.train(), 3) == 4


@pytest.mark.parametrize(
    ('iteration', 'training', 'warns'),
    [(8, True, False), (9, True, True), (0, False, True)],
)
def test_collapse_warns(hub, monkeypatch, iteration, training, warns):
    """Once in each window of a training, and in a test."""
    texts = []
    monkeypatch.setattr(
        'mmcim.models.tokenizers.base.print_log',
        lambda text, **kwargs: texts.append(text),
    )
    model = build(vocab_size=4, usage_window=10).train(training)
    at(hub, iteration, 100)
    use(model, 1)
    assert ['one code to at least 90%' in text for text in texts] == [True] * warns


def test_every_parameter_has_a_gradient():
    model = build(kl_weight=(0.1, 0.1))
    total, _ = model.parse_losses(model.loss(inputs()))
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
        assert parameter.grad.isfinite().all(), name


def test_metrics_build_no_graph():
    losses = build().loss(inputs())
    for name in ('psnr', 'codes_used', 'temperature'):
        assert not losses[name].requires_grad


def test_extract_feat_returns_logits():
    model = build()
    logits = model(inputs(), mode='tensor')
    torch.testing.assert_close(logits, model.backbone(inputs()['tokenizer_images']))


def test_training_on_digits_lowers_loss(hub):
    model = build(vocab_size=64, width=32)
    images = digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    history = []
    for iteration in range(60):
        at(hub, iteration, 60)
        batch = images[torch.randint(1797, (32,), generator=generator)]
        losses = model.loss({'tokenizer_images': batch})
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append({key: value.item() for key, value in losses.items()})
    first, last = history[0], history[-5:]
    recon = sum(step['loss_recon'] for step in last) / 5
    assert recon < first['loss_recon'] / 3
    assert sum(step['psnr'] for step in last) / 5 > first['psnr'] + 5
    assert history[-1]['codes_used'] >= 8


class Record(Hook):
    def __init__(self):
        self.temperatures = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.temperatures.append(outputs['temperature'].item())


def run(work_dir, max_epochs, record, resume=False):
    images = (digits()[:16] * 255).to(torch.uint8)
    model = build()
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        experiment_name=f'dvae-{uuid.uuid4()}',
        train_dataloader=DataLoader([{'inputs': p} for p in images], batch_size=4),
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[record],
        resume=resume,
        default_scope='mmpretrain',
    )
    runner.train()
    return runner.model


def test_trained_checkpoint_becomes_tokenizer(tmp_path):
    record = Record()
    model = run(tmp_path, max_epochs=2, record=record)
    expected = [
        0.25 + 1.75 * (1 + math.cos(math.pi * min(i / 8 / 0.5, 1))) / 2 for i in range(8)
    ]
    assert record.temperatures == pytest.approx(expected)

    # The checkpoint is loaded as tokenizer, without unpickling code.
    tokenizer = DiscreteVAE(str(tmp_path / 'epoch_2.pth'))
    images = digits()[:4]
    assert torch.equal(tokenizer.encode(images), model.backbone(images).argmax(1))

    record = Record()
    run(tmp_path, max_epochs=4, record=record, resume=True)
    expected = [
        0.25 + 1.75 * (1 + math.cos(math.pi * min(i / 16 / 0.5, 1))) / 2
        for i in range(8, 16)
    ]
    assert record.temperatures == pytest.approx(expected)
