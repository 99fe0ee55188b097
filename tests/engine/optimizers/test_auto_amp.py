# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mmcim.engine import AutoAmpOptimWrapper
from mmcim.engine.optimizers.auto_amp import bf16_on_gpu

needs_bfloat16 = pytest.mark.skipif(
    not bf16_on_gpu(), reason='needs a GPU with bfloat16: make test-gpu'
)


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


def test_unnamed_groups_are_clipped_as_in_mmengine():
    x = 10 * torch.randn(4, 3)
    steps = []
    for cls in (AutoAmpOptimWrapper, OptimWrapper):
        model = Pair()
        before = copy(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        step(model, cls(optimizer=optimizer, clip_grad=dict(max_norm=0.5)), x)
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


@pytest.mark.skipif(bf16_on_gpu(), reason='is about machines with no such GPU')
def test_float32_on_cpu():
    model = Pair()
    wrapper = wrap(model)
    with wrapper.optim_context(model):
        assert not torch.is_autocast_enabled('cpu')
        assert model.generator(torch.randn(4, 3)).dtype == torch.float32


@pytest.mark.gpu
@needs_bfloat16
@pytest.mark.parametrize('enabled', [True, False])
def test_bfloat16_on_gpu(enabled):
    model = Pair().cuda()
    wrapper = wrap(model, enabled=enabled, clip_grad=dict(max_norm=0.5))
    x = torch.randn(4, 3, device='cuda')
    with wrapper.optim_context(model):
        output = model.generator(x)
    assert output.dtype == (torch.bfloat16 if enabled else torch.float32)
    before = copy(model)
    step(model, wrapper, x)
    assert any((v != 0).any() for v in difference(model, before).values())
    assert all(p.dtype == torch.float32 for p in model.parameters())
