# Copyright (c) mmcim contributors. All rights reserved.
"""In which precision a device computes: one answer for training, tests and messages."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from mmengine.device import get_device
from torch.nn.attention import SDPBackend, sdpa_kernel

_DTYPES = ('bfloat16', 'float16', 'float32')
# Values of oneDNN's limit of the instructions that it uses.
_WITHOUT_BF16 = ('SSE41', 'AVX', 'AVX2', 'AVX512_CORE', 'AVX512_CORE_VNNI')
_TF32 = ('none', 'convolutions', 'all')


class Precision(NamedTuple):
    """What matrix products and convolutions are computed in; weights stay in float32.

    Attributes:
        dtype: bfloat16 or float16 by autocast, or float32.
        reason: Why it is this one, for messages.
    """

    dtype: torch.dtype
    reason: str

    def autocast(self) -> AbstractContextManager:
        """Enter autocast on the device of this machine, or nothing for float32."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(get_device(), self.dtype)

    @contextmanager
    def attention(self) -> Iterator[None]:
        """Compute attention in bfloat16 on a CPU as matmul, softmax and matmul.

        The backward pass of PyTorch's fused kernel is several times slower there. The
        products are in bfloat16 if the CPU multiplies it, and in float32 otherwise, since
        PyTorch's fallback for bfloat16 is slower than both.
        """
        if self.dtype is not torch.bfloat16 or get_device() != 'cpu':
            yield
            return
        settings = torch.backends.cuda  # for CPUs as well
        before = settings.fp16_bf16_reduction_math_sdp_allowed()
        settings.allow_fp16_bf16_reduction_math_sdp(cpu_multiplies_bfloat16())
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            settings.allow_fp16_bf16_reduction_math_sdp(before)


def choose_precision(precision: str = 'auto') -> Precision:
    """Choose the precision of this machine's device.

    Args:
        precision: 'bfloat16', 'float16', 'float32', or 'auto': bfloat16 on GPUs and CPUs
            that multiply it, float16 on other GPUs with tensor cores, such as T4 and
            RTX 20, and float32 elsewhere.

    Raises:
        ValueError: For anything else.
    """
    device = get_device()
    if precision in _DTYPES:
        reason = 'set by optim_wrapper.precision'
        if device == 'cpu' and not (precision == 'float32' or cpu_multiplies_bfloat16()):
            reason += '; this CPU has no products in it, and is slower than in float32'
        return Precision(getattr(torch, precision), reason)
    if precision != 'auto':
        raise ValueError(f'precision is {precision!r}, but must be auto or of {_DTYPES}')
    if device == 'cpu' and cpu_multiplies_bfloat16():
        return Precision(torch.bfloat16, 'which this CPU multiplies')
    if device == 'cpu':
        return Precision(torch.float32, 'this CPU does not multiply bfloat16')
    if device != 'cuda':
        return Precision(torch.float32, f'nothing else is tested on {device}')
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(torch.bfloat16, 'which this GPU multiplies')
    if torch.cuda.get_device_capability() >= (7, 0):
        return Precision(torch.float16, 'this GPU does not multiply bfloat16')
    return Precision(torch.float32, 'this GPU has no tensor cores')


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has AVX-512 BF16 or AMX, and oneDNN is not kept from using it."""
    if os.environ.get('ONEDNN_MAX_CPU_ISA', '').upper() in _WITHOUT_BF16:
        return False
    # PyTorch has no public question that its supported versions share.
    names = ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    return any(getattr(torch.cpu, name, bool)() for name in names)


def set_tf32(where: str | None) -> None:
    """Set what GPUs compute of float32 in TF32, with 10 instead of 23 bits of mantissa.

    Args:
        where: 'none', 'convolutions' (PyTorch's default) or 'all', which adds matrix
            products; None changes nothing.

    Raises:
        ValueError: For anything else.
    """
    if where is None:
        return
    if where not in _TF32:
        raise ValueError(f'env_cfg.tf32 is {where!r}, but must be one of {_TF32}')
    torch.backends.cudnn.allow_tf32 = where != 'none'
    torch.set_float32_matmul_precision('high' if where == 'all' else 'highest')
