# Copyright (c) mmcim contributors. All rights reserved.
import math

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmcim.engine import AutoAmpOptimWrapper

LOW = ('bfloat16', 'float16')


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.Linear(3, 2)
        self.enhancer = nn.Linear(3, 2)

    def forward(self, x, weight=1.0):
        return self.generator(x).square().sum() + weight * (
            self.enhancer(x).square().sum()
        )


def wrap(model, named=True, **kwargs):
    groups = [
        dict(params=list(child.parameters()), **({'network': name} if named else {}))
        for name, child in model.named_children()
    ]
    kwargs.setdefault('precision', 'float32')  # also where a machine has others
    return AutoAmpOptimWrapper(optimizer=torch.optim.SGD(groups, lr=1.0), **kwargs)


def norm(tensors):
    """Root of the sum of all squares."""
    return sum(t.square().sum() for t in tensors).sqrt()


def step(model, wrapper, x, **kwargs):
    with wrapper.optim_context(model):
        loss = model(x, **kwargs)
    wrapper.update_params(loss)


def difference(model, before):
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}


def copy(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture
def hub():
    return MessageHub.get_instance('auto_amp')


def test_each_submodel_is_clipped_separately(hub):
    model = Pair()
    x = 10 * torch.randn(4, 3)
    model(x).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    before = copy(model)

    wrapper = wrap(model, clip_grad=dict(max_norm=0.5))
    step(model, wrapper, x)

    # At learning rate 1 the step is the clipped gradient.
    steps = difference(model, before)
    norms = {}
    for network in ('generator', 'enhancer'):
        names = [name for name in grads if name.startswith(network)]
        norms[network] = norm(grads[name] for name in names)
        assert norms[network] > 0.5
        for name in names:
            expected = grads[name] * 0.5 / norms[network]
            torch.testing.assert_close(steps[name], expected, rtol=1e-4, atol=1e-6)

    found = {name: value.item() for name, value in wrapper.grad_norms.items()}
    assert found['grad_norm_generator'] == pytest.approx(norms['generator'].item())
    assert found['grad_norm_enhancer'] == pytest.approx(norms['enhancer'].item())
    assert found['grad_norm'] == pytest.approx(norm(grads.values()).item())


@pytest.mark.parametrize('named', [True, False])
def test_loss_weight_does_not_change_other_submodel(named):
    """It would with unnamed groups and a global norm."""
    x = 10 * torch.randn(4, 3)
    steps = []
    for weight in (1.0, 10.0):
        model = Pair()
        before = copy(model)
        wrapper = wrap(model, named, clip_grad=dict(max_norm=0.5))
        step(model, wrapper, x, weight=weight)
        steps.append(difference(model, before)['generator.weight'])
    assert torch.allclose(*steps, rtol=1e-5) == named


def test_each_parameter_is_clipped_separately(hub):
    model = Pair()
    before = copy(model)
    wrapper = wrap(model, clip_grad=dict(max_norm=0.5), clip_per_parameter=True)
    # The second weight's gradient is small.
    model(x := torch.randn(5, 3), weight=1e-3).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    step(model, wrapper, x, weight=1e-3)
    clipped = set()
    for name, change in difference(model, before).items():
        size = grads[name].square().sum().sqrt()
        clipped.add(bool(size > 0.5))
        expected = grads[name] * min(1.0, 0.5 / (size.item() + 1e-6))
        torch.testing.assert_close(change, expected, atol=1e-6, rtol=1e-5)
    assert clipped == {True, False}
    total = norm(grads.values()).item()
    assert wrapper.grad_norms['grad_norm'].item() == pytest.approx(total, rel=1e-5)


def test_unnamed_groups_are_clipped_as_in_mmengine():
    x = 10 * torch.randn(4, 3)
    steps = []
    for cls in (AutoAmpOptimWrapper, OptimWrapper):
        model = Pair()
        before = copy(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        kwargs = dict(precision='float32') if cls is AutoAmpOptimWrapper else {}
        step(model, cls(optimizer=optimizer, clip_grad=dict(max_norm=0.5), **kwargs), x)
        steps.append(difference(model, before))
    for name in steps[0]:
        assert torch.equal(steps[0][name], steps[1][name])


def test_small_gradients_are_not_clipped():
    model = Pair()
    x = 1e-3 * torch.randn(4, 3)
    model(x).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    before = copy(model)
    step(model, wrap(model, clip_grad=dict(max_norm=1000.0)), x)
    for name, value in difference(model, before).items():
        torch.testing.assert_close(value, grads[name], rtol=1e-4, atol=1e-6)


def test_clip_by_value():
    model = Pair()
    before = copy(model)
    x = 10 * torch.randn(4, 3)
    step(model, wrap(model, clip_grad=dict(type='value', clip_value=0.01)), x)
    for value in difference(model, before).values():
        assert value.abs().max() <= 0.0101


def test_accumulated_gradient_is_clipped_once(hub):
    """Two half batches give the step of their mean loss."""
    x = 10 * torch.randn(4, 3)
    whole, halves = Pair(), Pair()
    step_of_whole = wrap(whole, clip_grad=dict(max_norm=0.5))
    with step_of_whole.optim_context(whole):
        loss = (whole(x[:2]) + whole(x[2:])) / 2
    step_of_whole.update_params(loss)

    wrapper = wrap(halves, accumulative_counts=2, clip_grad=dict(max_norm=0.5))
    wrapper.initialize_count_status(halves, 0, 2)
    before = copy(halves)
    step(halves, wrapper, x[:2])
    assert all((v == 0).all() for v in difference(halves, before).values())
    step(halves, wrapper, x[2:])
    for a, b in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def losses_of(precision, backbone, device='cpu', steps=8):
    """Losses of a small classifier of fixed images."""
    size = dict(img_size=32, patch_size=8)
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    torch.manual_seed(0)
    model = nn.Sequential(MODELS.build(dict(type=backbone, arch=arch, **size)))
    model[0].init_weights()
    model.append(nn.Linear(32, 4))
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    wrapper = AutoAmpOptimWrapper(
        optimizer=optimizer, precision=precision, clip_grad=dict(max_norm=1.0)
    )
    images, labels = (
        torch.randn(16, 3, 32, 32).to(device),
        torch.arange(16).to(device) % 4,
    )
    losses = []
    for _ in range(steps):
        with wrapper.optim_context(model):
            (features,) = model[0](images)
            logits = model[1](features)
            loss = nn.functional.cross_entropy(logits, labels)
        assert logits.dtype is getattr(torch, precision)
        wrapper.update_params(loss)
        losses.append(loss.item())
    assert all(p.dtype is torch.float32 for p in model.parameters())
    return torch.tensor(losses)


@pytest.mark.parametrize('backbone', ['VisionTransformer', 'FusedBEiTViT'])
@pytest.mark.parametrize('precision', LOW)
def test_losses_are_those_of_float32(precision, backbone):
    exact = losses_of('float32', backbone)
    assert exact[-1] < 0.9 * exact[0]
    # 8 and 11 bits of mantissa.
    tolerance = dict(bfloat16=2e-2, float16=4e-3)[precision]
    torch.testing.assert_close(
        losses_of(precision, backbone), exact, rtol=tolerance, atol=0
    )


@pytest.mark.gpu
@pytest.mark.parametrize('precision', LOW)
def test_losses_on_a_gpu(precision):
    exact, found = (losses_of(p, 'FusedBEiTViT', 'cuda') for p in ('float32', precision))
    torch.testing.assert_close(found, exact, rtol=2e-2, atol=0)


def test_activation_checkpointing_recomputes_the_same_attention():
    """The second forward pass is a part of the backward pass."""
    grads = []
    for recompute in (False, True):
        torch.manual_seed(0)
        q = torch.randn(2, 2, 9, 8, requires_grad=True)
        attend = nn.functional.scaled_dot_product_attention
        wrapper = wrap(Pair(), precision='bfloat16')
        with wrapper.optim_context(nn.Identity()):
            if recompute:
                out = checkpoint(attend, q, q, q, use_reentrant=False)
            else:
                out = attend(q, q, q)
        wrapper.backward(out.square().sum())
        grads.append(q.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize('counts', [1, 2])
def test_float16_clips_each_submodel_after_unscaling(counts):
    x = 3 * torch.randn(8, 3)
    steps, norms = [], []
    for precision in ('float32', 'float16'):
        model = Pair()
        before = copy(model)
        clip = dict(max_norm=0.5)
        wrapper = wrap(
            model, precision=precision, clip_grad=clip, accumulative_counts=counts
        )
        wrapper.initialize_count_status(model, 0, counts)
        if precision == 'float16':
            wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=64.0)
        for part in x.chunk(counts):
            step(model, wrapper, part)
        steps.append(difference(model, before))
        norms.append(wrapper.grad_norms)
    assert norms[0]['grad_norm_generator'] > 0.5
    for exact, found in (steps, norms):
        for name, value in exact.items():
            torch.testing.assert_close(found[name], value, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=0.5)])
def test_float16_skips_a_step_that_overflows(clip_grad, fused):
    model = Pair()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    wrapper = AutoAmpOptimWrapper(
        optimizer=optimizer, precision='float16', clip_grad=clip_grad and dict(clip_grad)
    )
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**20)
    before = copy(model)
    step(model, wrapper, torch.ones(4, 3))
    assert all((v == 0).all() for v in difference(model, before).values())
    assert wrapper.loss_scaler.get_scale() == 2.0**19
    while wrapper.loss_scaler.get_scale() > 2.0**8:
        scale = wrapper.loss_scaler.get_scale()
        step(model, wrapper, torch.ones(4, 3))
        if wrapper.loss_scaler.get_scale() == scale:
            break
    # The first step of Adam, in units of the learning rate.
    moved = torch.cat([v.flatten() for v in difference(model, before).values()])
    torch.testing.assert_close(moved.abs().amax(), torch.tensor(0.1), rtol=2e-2, atol=0)


def run(precision, **kwargs):
    wrapper = dict(
        type='AutoAmpOptimWrapper',
        precision=precision,
        optimizer=dict(type='AdamW', lr=0.01),
        constructor='NetworkwiseOptimWrapperConstructor',
        clip_grad=dict(max_norm=1.0),
    )
    return dict(
        optim_wrapper=wrapper, train_cfg=dict(by_epoch=True, max_epochs=8), **kwargs
    )


def test_float16_run_resumes_exactly(make_runner, tmp_path):
    whole = make_runner(**run('float16', work_dir=tmp_path / 'a'))
    whole.train()
    scale = whole.optim_wrapper.loss_scaler.get_scale()
    assert scale < 65536  # it has begun with steps that overflowed
    norms = whole.message_hub.get_scalar('train/grad_norm').data[0]
    assert 0 < len(norms) < whole.iter and all(map(math.isfinite, norms))
    assert len(whole.message_hub.get_scalar('train/loss').data[0]) == whole.iter

    again = make_runner(
        **run('float16', work_dir=tmp_path / 'b'),
        load_from=str(tmp_path / 'a/epoch_6.pth'),
        resume=True,
    )
    again.train()
    assert again.optim_wrapper.loss_scaler.get_scale() == scale
    for ours, theirs in zip(again.model.parameters(), whole.model.parameters()):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(('first', 'second'), [LOW, LOW[::-1], ('float32', 'float16')])
def test_resuming_in_another_precision_is_a_warning(
    make_runner, tmp_path, monkeypatch, first, second
):
    """As it is with other versions and another number of processes."""
    make_runner(**run(first, work_dir=tmp_path / 'a')).train()
    runner = make_runner(
        **run(second, work_dir=tmp_path / 'b'),
        load_from=str(tmp_path / 'a/epoch_6.pth'),
        resume=True,
    )
    warnings = []
    monkeypatch.setattr(runner.logger, 'warning', warnings.append)
    runner.train()
    text = f'environment.precision is {first}'
    (warning,) = (line for line in warnings if text in line)
    assert f'in the checkpoint and {second} autocast in this run' in warning
    assert runner.optim_wrapper.loss_scaler.is_enabled() == (second == 'float16')
    assert runner.model.line.weight.isfinite().all()


def test_override_keeps_the_scale(make_runner, tmp_path):
    settings = run('float16')
    first = make_runner(**settings)
    first.train()
    settings['optim_wrapper']['clip_grad'] = dict(max_norm=0.5)
    settings['train_cfg']['max_epochs'] = 9
    again = make_runner(**settings, resume=True, override=True)
    again.load_or_resume()
    scalers = [r.optim_wrapper.loss_scaler.state_dict() for r in (first, again)]
    assert scalers[0] == scalers[1]


def test_run_ends_when_no_gradient_is_finite_any_more(make_runner):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * torch.nan

    runner = make_runner(
        **run('float16') | dict(train_cfg=dict(by_epoch=True, max_epochs=40))
    )
    forward = runner.model.forward
    runner.model.forward = lambda *args, **kwargs: {
        name: Broken.apply(loss) for name, loss in forward(*args, **kwargs).items()
    }
    # 65536 * 2 ** -30 is the first below 1e-4.
    with pytest.raises(FloatingPointError, match='no gradient is finite at iteration 30'):
        runner.train()


def test_start_summary_says_the_precision_and_why(make_runner, monkeypatch):
    texts = []
    runner = make_runner(**run('auto'))
    monkeypatch.setattr(runner.logger, 'info', lambda text, **kwargs: texts.append(text))
    runner.train()
    chosen = runner.optim_wrapper.precision
    (summary,) = (text for text in texts if 'Device: ' in text)
    assert f'({chosen.reason})' in summary
    assert str(chosen.dtype).removeprefix('torch.') in summary
