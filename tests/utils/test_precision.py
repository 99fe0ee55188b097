# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmcim.utils import precision
from mmcim.utils.precision import Precision, choose_precision, set_tf32

BF16 = Precision(torch.bfloat16, 'test')


@pytest.fixture
def machine(monkeypatch):
    """Set what PyTorch says of the device."""

    def make(
        device='cpu', bf16=False, capability=(7, 5), avx512=False, amx=False, limit=''
    ):
        monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', limit)
        monkeypatch.setattr(precision, 'get_device', lambda: device)
        monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda **kwargs: bf16)
        monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
        for name, has in dict(avx512_bf16=avx512, amx_tile=amx).items():
            name = f'_is_{name}_supported'
            monkeypatch.setattr(torch.cpu, name, lambda has=has: has, raising=False)

    return make


@pytest.mark.parametrize(
    ('found', 'dtype', 'reason'),
    [
        (dict(), 'float32', 'this CPU does not multiply bfloat16'),
        (dict(avx512=True), 'bfloat16', 'which this CPU multiplies'),
        (dict(amx=True), 'bfloat16', 'which this CPU multiplies'),
        (dict(amx=True, limit='AVX2'), 'float32', 'this CPU does not multiply bfloat16'),
        (dict(amx=True, limit='AVX512_CORE_BF16'), 'bfloat16', 'this CPU multiplies'),
        (dict(device='cuda', bf16=True), 'bfloat16', 'which this GPU multiplies'),
        (dict(device='cuda'), 'float16', 'this GPU does not multiply bfloat16'),
        (dict(device='cuda', capability=(6, 1)), 'float32', 'no tensor cores'),
        (dict(device='mps', bf16=True), 'float32', 'nothing else is tested on mps'),
    ],
)
def test_auto_asks_the_device(machine, found, dtype, reason):
    machine(**found)
    chosen = choose_precision('auto')
    assert chosen.dtype is getattr(torch, dtype)
    assert reason in chosen.reason


def test_other_precisions_ask_nothing(machine):
    for name in ('bfloat16', 'float16', 'float32'):
        machine(device='cuda', bf16=name == 'float16')
        assert choose_precision(name).dtype is getattr(torch, name)
    with pytest.raises(ValueError, match="precision is 'fp16', but must be auto or of"):
        choose_precision('fp16')


@pytest.mark.parametrize('name', ['bfloat16', 'float16', 'float32'])
def test_autocast(machine, name):
    machine()
    with choose_precision(name).autocast():
        assert torch.nn.Linear(3, 2)(torch.ones(1, 3)).dtype is getattr(torch, name)


def attend(q, bias=None):
    """Attention of tokens to themselves, its gradient, and the operations on the way."""
    q = q.clone().requires_grad_()
    with torch.profiler.profile() as profiler:
        out = F.scaled_dot_product_attention(q, q, q, bias)
        out.square().sum().backward()
    return out, q.grad, {event.key for event in profiler.key_averages()}


@pytest.mark.parametrize('multiplies', [False, True])
@pytest.mark.parametrize('with_bias', [False, True])
def test_attention_in_bfloat16_is_a_plain_product(machine, multiplies, with_bias):
    machine(avx512=multiplies)
    torch.manual_seed(0)
    q = torch.randn(2, 3, 17, 8).bfloat16()
    bias = torch.randn(3, 17, 17).bfloat16() if with_bias else None
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    with BF16.attention():
        out, grad, operations = attend(q, bias)
    assert 'aten::bmm' in operations
    assert not any('flash' in name for name in operations)
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed() == before

    exact = q.float().requires_grad_()
    scores = exact @ exact.transpose(-2, -1) * 8**-0.5
    scores = scores + bias.float() if with_bias else scores
    expected = scores.softmax(-1) @ exact
    expected.square().sum().backward()
    # The error of a bfloat16 result, or of bfloat16 on the way.
    tolerance = 0.05 if multiplies else 0.01
    for ours, theirs in ((out, expected), (grad, exact.grad)):
        assert ours.dtype is torch.bfloat16
        assert (ours.float() - theirs).norm() < tolerance * theirs.norm()


@pytest.mark.parametrize('chosen', [Precision(torch.float32, ''), BF16])
def test_attention_elsewhere_is_pytorch_s_choice(machine, chosen):
    machine(device='cuda' if chosen is BF16 else 'cpu')
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), chosen.attention():
        _, _, operations = attend(torch.randn(2, 3, 17, 8))
    assert any('flash' in name for name in operations)


def test_tf32():
    try:
        for where, of_both in dict(
            none=(False, 'highest'), all=(True, 'high'), convolutions=(True, 'highest')
        ).items():
            set_tf32(where)
            set_tf32(None)  # changes nothing
            cudnn = torch.backends.cudnn.allow_tf32
            assert (cudnn, torch.get_float32_matmul_precision()) == of_both
        with pytest.raises(ValueError, match="env_cfg.tf32 is 'yes'"):
            set_tf32('yes')
    finally:
        set_tf32('convolutions')  # PyTorch's default
