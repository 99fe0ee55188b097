# Copyright (c) mmcim contributors. All rights reserved.
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from mmcim.models.tokenizers import DiscreteVAE, DiscreteVAENet

SIZES = dict(stride=8, vocab_size=32, width=16, depth=2, code_dims=12)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return DiscreteVAENet(**SIZES)


@pytest.fixture
def checkpoint(network, tmp_path):
    path = tmp_path / 'dvae.pth'
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.mark.parametrize('stride', [4, 8, 16])
def test_shapes(stride):
    network = DiscreteVAENet(**{**SIZES, 'stride': stride})
    images = torch.rand(2, 3, 3 * stride, 2 * stride)
    logits = network(images)
    assert logits.shape == (2, 32, 3, 2)
    codes = network.embed(logits.argmax(1))
    assert codes.shape == (2, 12, 3, 2)
    assert network.decode(codes).shape == images.shape


def test_width_halves_with_each_upsampling(network):
    downs = [m for m in network.encoder if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in downs] == [4, 8, 16, 32]
    ups = [m for m in network.decoder if isinstance(m, nn.ConvTranspose2d)]
    assert [m.out_channels for m in ups] == [8, 4, 3]


def test_mix_is_weighted_sum_of_embeddings(network):
    ids = torch.randint(32, (2, 3, 4))
    one_hot = F.one_hot(ids, 32).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(network.mix(one_hot), network.embed(ids))
    weights = torch.rand(2, 32, 3, 4).softmax(1)
    expected = torch.einsum('bvhw,vc->bchw', weights, network.codebook.weight)
    torch.testing.assert_close(network.mix(weights), expected)


def test_encode_returns_most_likely_code(network, checkpoint):
    tokenizer = DiscreteVAE(checkpoint)
    assert (tokenizer.stride, tokenizer.vocab_size) == (8, 32)
    images = torch.rand(2, 3, 24, 16)
    ids = tokenizer.encode(images)
    assert torch.equal(ids, network(images).argmax(1))
    restored = network.decode(network.embed(ids)).clamp(0, 1)
    torch.testing.assert_close(tokenizer.decode(ids), restored)


@pytest.mark.parametrize('kind', ['trainer', 'backbone', 'safetensors'])
def test_all_checkpoint_formats(network, checkpoint, tmp_path, kind):
    tensors = network.state_dict()
    if kind == 'safetensors':
        path = tmp_path / 'dvae.safetensors'
        save_file(tensors, path)
    else:
        path = tmp_path / 'epoch_1.pth'
        prefix = 'backbone.' if kind == 'trainer' else ''
        state_dict = {prefix + key: value for key, value in tensors.items()}
        if kind == 'trainer':
            state_dict['data_preprocessor.mean'] = torch.zeros(3)
        torch.save({'state_dict': state_dict, 'meta': {'epoch': 1}}, path)
    tokenizer = DiscreteVAE(str(path))
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(tokenizer.encode(images), network(images).argmax(1))
    # The same weights are the same tokenizer, regardless of the file format.
    plain = DiscreteVAE(checkpoint)
    assert tokenizer.identity['sha256'] == plain.identity['sha256']


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('stride', 4),
        ('stride', 16),
        ('vocab_size', 64),
        ('width', 32),
        ('depth', 0),
        ('depth', 3),
        ('code_dims', 8),
    ],
)
def test_sizes_are_read_from_checkpoint(tmp_path, name, value):
    network = DiscreteVAENet(**{**SIZES, name: value})
    save_file(network.state_dict(), tmp_path / 'dvae.safetensors')
    tokenizer = DiscreteVAE(str(tmp_path / 'dvae.safetensors'))
    assert tokenizer.stride == network.stride
    assert tokenizer.vocab_size == network.vocab_size
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(tokenizer.encode(images), network(images).argmax(1))


def test_checkpoint_with_missing_layer_raises(network, tmp_path):
    tensors = network.state_dict()
    del tensors['decoder.0.bias']
    save_file(tensors, tmp_path / 'dvae.safetensors')
    with pytest.raises(ValueError, match='does not fit.*Missing key.*decoder.0.bias'):
        DiscreteVAE(str(tmp_path / 'dvae.safetensors'))


def test_checkpoint_of_another_model_raises(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'linear.pth')
    with pytest.raises(ValueError, match='Expected a checkpoint of DiscreteVAETrain'):
        DiscreteVAE(str(tmp_path / 'linear.pth'))


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(stride=6), 'stride=6 must be 4, 8 or 16'),
        (dict(width=18), 'width=18 a multiple of half'),
    ],
)
def test_invalid_network_sizes_raise(wrong, message):
    with pytest.raises(ValueError, match=message):
        DiscreteVAENet(**{**SIZES, **wrong})
