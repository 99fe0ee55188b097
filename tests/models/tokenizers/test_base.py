# Copyright (c) mmcim contributors. All rights reserved.
"""The contract of all tokenizers, tested on a small discrete VAE."""

import copy
import hashlib
import re
import struct

import pytest
import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from safetensors.torch import save_file
from torch import nn

from mmcim.checkpoints import read_weights
from mmcim.checkpoints.record import tensors_sha256
from mmcim.models.tokenizers import (
    BaseTokenizer,
    DiscreteVAE,
    DiscreteVAENet,
)
from mmcim.models.tokenizers.base import freeze

SIZES = dict(stride=4, vocab_size=16, width=8, depth=1, code_dims=8)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / 'dvae.safetensors'
    save_file(DiscreteVAENet(**SIZES).state_dict(), path)
    return str(path)


@pytest.fixture
def tokenizer(checkpoint):
    return DiscreteVAE(checkpoint)


def tensors_of(module):
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def assert_unchanged(module, before):
    after = dict(module.named_buffers())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class Trained(BaseModule):
    """A model with a tokenizer and trained layers."""

    def __init__(self, tokenizer, init_cfg=None):
        super().__init__(init_cfg)
        self.tokenizer = tokenizer
        self.head = nn.Conv2d(3, 1, 1)


@pytest.mark.parametrize(('same', 'warns'), [(89, False), (90, True)])
def test_one_code_for_most_patches_warns_once(tokenizer, monkeypatch, same, warns):
    texts = []
    monkeypatch.setattr(
        'mmcim.models.tokenizers.base.print_log',
        lambda text, **kwargs: texts.append(text),
    )
    ids = torch.arange(100).clamp(max=100 - same).view(1, 10, 10)
    monkeypatch.setattr(tokenizer, '_encode', lambda images: ids)
    for _ in range(2):
        assert tokenizer.encode(torch.rand(1, 3, 40, 40)).equal(ids)
    assert ['one code to at least 90%' in text for text in texts] == [True] * warns


@pytest.mark.parametrize('chunk_size', [1, 2, 5, 64])
def test_chunks_of_images_give_the_same(checkpoint, chunk_size):
    whole = DiscreteVAE(checkpoint, chunk_size=5)
    chunked = DiscreteVAE(checkpoint, chunk_size=chunk_size)
    sizes = []
    for name in ('encoder', 'decoder'):
        part = getattr(chunked.network, name)
        part.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    images = torch.rand(5, 3, 16, 24)
    ids = whole.encode(images)
    assert len(ids.unique()) > 5
    assert chunked.encode(images).equal(ids)
    torch.testing.assert_close(chunked.decode(ids), whole.decode(ids))
    assert max(sizes) == min(chunk_size, 5) and sum(sizes) == 2 * 5


def test_no_parameters_and_empty_state_dict(tokenizer):
    model = Trained(tokenizer)
    assert len(tensors_of(tokenizer)) == len(DiscreteVAENet(**SIZES).state_dict())
    assert list(tokenizer.parameters()) == []
    assert tokenizer.state_dict() == {}
    assert {name for name, _ in model.named_parameters()} == {
        'head.weight',
        'head.bias',
    }
    assert set(model.state_dict()) == {'head.weight', 'head.bias'}
    assert not any(buffer.requires_grad for buffer in tokenizer.buffers())


def test_tokenizer_stays_in_eval_mode(tokenizer):
    model = Trained(tokenizer).train()
    assert model.head.training
    assert not any(module.training for module in model.tokenizer.modules())
    assert tokenizer.train() is tokenizer
    assert not tokenizer.training


def test_bit_identical_after_training(tokenizer):
    before = tensors_of(tokenizer)
    model = Trained(
        tokenizer,
        init_cfg=[
            dict(type='Constant', layer=['Conv2d', 'ConvTranspose2d'], val=3.0),
            dict(type='Normal', layer='Embedding', std=1.0),
        ],
    )
    model.init_weights()
    assert (model.head.weight == 3).all()  # the initialisation did run
    assert_unchanged(tokenizer, before)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=1.0)
    model.train().requires_grad_(True)
    for _ in range(3):
        images = tokenizer.decode(tokenizer.encode(torch.rand(2, 3, 8, 8)))
        model.head(images).square().mean().backward()
        optimizer.step()
    assert_unchanged(tokenizer, before)


def test_no_gradient_flows_through_tokenizer(tokenizer):
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    ids = tokenizer.encode(images)
    restored = tokenizer.decode(ids)
    assert not ids.requires_grad
    assert not restored.requires_grad


def test_freeze_converts_parameters_and_buffers():
    module = freeze(nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)))
    assert list(module.parameters()) == []
    assert module.state_dict() == {}
    assert {name for name, _ in module.named_buffers()} == {
        '0.weight',
        '1.weight',
        '1.bias',
        '1.running_mean',
        '1.running_var',
        '1.num_batches_tracked',
    }
    assert module[0](torch.ones(1, 2)).shape == (1, 2)


def test_frozen_tensors_follow_to_and_deepcopy(tokenizer):
    images = torch.rand(1, 3, 8, 8)
    other = copy.deepcopy(tokenizer)
    assert torch.equal(other.encode(images), tokenizer.encode(images))
    assert {buffer.device.type for buffer in other.to('meta').buffers()} == {'meta'}


def test_shapes_dtypes_and_ranges(tokenizer):
    images = torch.rand(2, 3, 8, 12)
    ids = tokenizer.encode(images)
    assert ids.shape == (2, 2, 3)
    assert ids.dtype == torch.int64
    assert 0 <= ids.min() <= ids.max() < tokenizer.vocab_size == 16
    restored = tokenizer.decode(ids)
    assert restored.shape == images.shape
    assert restored.dtype == torch.float32
    assert 0 <= restored.min() <= restored.max() <= 1


def test_outer_autocast_is_ignored(tokenizer):
    # Enough images for bfloat16 to change some of the ids.
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    network = tokenizer.network
    ids = network(images).argmax(1)
    restored = network.decode(network.embed(ids)).clamp(0, 1)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert not torch.equal(network(images).argmax(1), ids)
    assert torch.equal(tokenizer.encode(images), ids)
    assert torch.equal(tokenizer.decode(ids), restored)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(tokenizer.encode(images), ids)
        again = tokenizer.decode(ids)
    assert again.dtype == torch.float32
    assert torch.equal(again, restored)


def test_half_precision_images_are_computed_in_float32(tokenizer):
    images = torch.rand(2, 3, 16, 16).half()
    assert torch.equal(tokenizer.encode(images), tokenizer.encode(images.float()))


@pytest.mark.parametrize(
    ('images', 'error', 'message'),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, 'uint8, not floating'),
        (torch.zeros(1, 3, 8, 9), ValueError, r'multiples of 4, got .1, 3, 8, 9'),
        (torch.zeros(1, 1, 8, 8), RuntimeError, 'to have 3 channels, but got 1'),
    ],
)
def test_encode_invalid_images_raises(tokenizer, images, error, message):
    with pytest.raises(error, match=message):
        tokenizer.encode(images)


@pytest.mark.parametrize(
    ('ids', 'error', 'message'),
    [
        (torch.zeros(1, 2, 2), RuntimeError, 'Long'),
        (torch.full((1, 2, 2), 16), IndexError, 'out of range'),
    ],
)
def test_decode_invalid_ids_raises(tokenizer, ids, error, message):
    with pytest.raises(error, match=message):
        tokenizer.decode(ids)


def test_sha256_of_names_dtypes_shapes_and_bytes():
    tensors = {
        'b': torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        'a': torch.tensor([5], dtype=torch.int64),
    }
    expected = hashlib.sha256(
        b'["a", "torch.int64", [1]]'
        + struct.pack('<q', 5)
        + b'["b", "torch.float32", [2, 2]]'
        + struct.pack('<4f', 1, 2, 3, 4)
    ).hexdigest()
    assert tensors_sha256(tensors) == expected
    same = {'a': tensors['a'], 'b': tensors['b'].t().contiguous().t()}
    assert tensors_sha256(same) == expected


@pytest.mark.parametrize(
    'change',
    [
        lambda t: {'w': t['w'] + 1e-6},
        lambda t: {'v': t['w']},
        lambda t: {'w': t['w'].reshape(4)},
        lambda t: {'w': t['w'].view(torch.int32)},
    ],
)
def test_sha256_depends_on_value_name_shape_and_dtype(change):
    tensors = {'w': torch.arange(4.0).reshape(2, 2)}
    assert tensors_sha256(change(tensors)) != tensors_sha256(tensors)


def test_identity_fields(tokenizer, checkpoint, tmp_path):
    assert tokenizer.identity == {
        'type': 'DiscreteVAE',
        'source': checkpoint,
        'sha256': tensors_sha256(read_weights(checkpoint).tensors),
    }
    tensors = read_weights(checkpoint).tensors
    torch.save(tensors, tmp_path / 'same.pth')
    same = DiscreteVAE(str(tmp_path / 'same.pth'))
    assert same.identity['sha256'] == tokenizer.identity['sha256']

    tensors['codebook.weight'][3, 5] += 1e-3
    torch.save(tensors, tmp_path / 'other.pth')
    other = DiscreteVAE(str(tmp_path / 'other.pth'))
    assert other.identity['sha256'] != tokenizer.identity['sha256']


def test_build_from_config(checkpoint):
    tokenizer = MODELS.build(dict(type='DiscreteVAE', checkpoint=checkpoint))
    assert isinstance(tokenizer, BaseTokenizer)


class Plain(BaseTokenizer):
    """A tokenizer whose network is a linear layer."""

    expected = 'Do this'
    _encode = _decode = None

    @classmethod
    def _network(cls, tensors):
        return nn.Linear(*tensors['weight'].shape[::-1])


@pytest.mark.parametrize(
    ('tensors', 'problem'),
    [
        ({}, "missing 'weight'"),
        ({'weight': torch.zeros(3, 4)}, r'.*Missing key.* "bias".*'),
        (
            {'weight': torch.zeros(3, 4), 'bias': torch.zeros(2)},
            '.*size mismatch for bias.*',
        ),
        (
            dict.fromkeys(('weight', 'bias', 'scale'), torch.zeros(3, 3)),
            '.*Unexpected key.* "scale".*size mismatch for bias.*',
        ),
    ],
)
def test_error_names_mismatched_tensors_in_one_line(tensors, problem):
    with pytest.raises(ValueError) as caught:
        Plain.build(tensors, 'w.pt')
    assert re.fullmatch(rf'w.pt does not fit: {problem}\. Do this', str(caught.value))


def test_network_is_float32():
    tensors = {'weight': torch.ones(3, 2, dtype=torch.float16), 'bias': torch.ones(3)}
    layer = Plain.build(tensors, 'w.pt')
    assert layer.weight.dtype == torch.float32
    assert (layer.weight == 1).all() and (layer.bias == 1).all()
