# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from mmcim.models.tokenizers import VQVAETokenizer


def random_weights(vocab_size=24, stem=4, width=6, hidden=5, code_dims=8):
    """A narrow network's state dict, with the names of the real file."""
    generator = torch.Generator().manual_seed(0)

    def layer(name, *shape, bias=True):
        fan_in = shape[1] * shape[2] * shape[3]
        weight = torch.randn(shape, generator=generator) * (4 / fan_in) ** 0.5
        tensors = {f'{name}.weight': weight}
        if bias:
            n_out = shape[1] if 'conv_t' in name else shape[0]
            tensors[f'{name}.bias'] = torch.randn(n_out, generator=generator) * 0.1
        return tensors

    def residual(part):
        name = f'{part}._blocks.residual.residual_blocks.residual_{{}}._block.'
        return {
            key: value
            for i in range(2)
            for key, value in (
                layer(name.format(i) + 'conv_1', hidden, width, 3, 3, bias=False)
                | layer(name.format(i) + 'conv_2', width, hidden, 1, 1, bias=False)
            ).items()
        }

    return {
        **layer('encoder._blocks.conv_1', stem, 3, 4, 4),
        **layer('encoder._blocks.conv_2', width, stem, 4, 4),
        **layer('encoder._blocks.conv_3', width, width, 3, 3),
        **residual('encoder'),
        **layer('pre_vq_conv', code_dims, width, 1, 1),
        'vq_vae.codebook.weight': torch.randn(vocab_size, code_dims, generator=generator)
        * 0.2,
        **layer('decoder._blocks.conv_1', width, code_dims, 3, 3),
        **residual('decoder'),
        **layer('decoder._blocks.conv_t_1', width, stem, 4, 4),
        **layer('decoder._blocks.conv_t_2', stem, 3, 4, 4),
    }


def residual_stack(x, weights, part):
    for i in range(2):
        name = f'{part}._blocks.residual.residual_blocks.residual_{i}._block.'
        x = F.relu(x)
        h = F.relu(F.conv2d(x, weights[name + 'conv_1.weight'], padding=1))
        x = x + F.conv2d(h, weights[name + 'conv_2.weight'])
    return F.relu(x)


def layer(x, weights, name, function=F.conv2d, **kwargs):
    return function(x, weights[f'{name}.weight'], weights[f'{name}.bias'], **kwargs)


def test_matches_explicit_forward_pass(tmp_path):
    weights = random_weights()
    torch.save(weights, tmp_path / 'vqvae.pt')
    tokenizer = VQVAETokenizer(str(tmp_path / 'vqvae.pt'))
    assert (tokenizer.vocab_size, tokenizer.stride) == (24, 4)
    colours = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    images = F.interpolate(colours, scale_factor=4)

    x = images - 0.5
    x = F.relu(layer(x, weights, 'encoder._blocks.conv_1', stride=2, padding=1))
    x = F.relu(layer(x, weights, 'encoder._blocks.conv_2', stride=2, padding=1))
    x = layer(x, weights, 'encoder._blocks.conv_3', padding=1)
    x = layer(residual_stack(x, weights, 'encoder'), weights, 'pre_vq_conv')
    codebook = weights['vq_vae.codebook.weight']
    distance = (x[:, None] - codebook[None, :, :, None, None]).square().sum(2)
    ids = distance.argmin(1)
    assert len(ids.unique()) >= 5
    assert torch.equal(tokenizer.encode(images), ids)

    x = codebook[ids].permute(0, 3, 1, 2)
    x = layer(x, weights, 'decoder._blocks.conv_1', padding=1)
    x = residual_stack(x, weights, 'decoder')
    up = dict(function=F.conv_transpose2d, stride=2, padding=1)
    x = F.relu(layer(x, weights, 'decoder._blocks.conv_t_1', **up))
    x = layer(x, weights, 'decoder._blocks.conv_t_2', **up)
    torch.testing.assert_close(tokenizer.decode(ids), (x + 0.5).clamp(0, 1))


def test_real_weights_reconstruct_real_images(vqvae_weights, imagenette_mini):
    tokenizer = VQVAETokenizer(str(vqvae_weights))
    assert (tokenizer.vocab_size, tokenizer.stride) == (512, 4)
    paths = sorted((imagenette_mini / 'val').glob('*/*.JPEG'))[::16]
    pixels = np.stack([np.asarray(Image.open(p).convert('RGB')) for p in paths])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    assert images.shape[1:] == (3, 224, 224)

    ids = tokenizer.encode(images)
    assert ids.shape == (len(images), 56, 56)
    error = (tokenizer.decode(ids) - images).square().mean((1, 2, 3))
    assert -10 * error.mean().log10() == pytest.approx(26.3, abs=0.3)
    assert 250 <= len(ids.unique()) <= 310


def test_missing_file_raises(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path / 'no.pt')):
        VQVAETokenizer(str(tmp_path / 'no.pt'))


def test_file_of_another_network_raises(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'linear.pt')
    with pytest.raises(ValueError, match="linear.pt.*missing 'codebook.weight'"):
        VQVAETokenizer(str(tmp_path / 'linear.pt'))


def test_missing_layer_raises(tmp_path):
    weights = random_weights()
    del weights['decoder._blocks.conv_t_1.bias']
    torch.save(weights, tmp_path / 'vqvae.pt')
    with pytest.raises(ValueError, match='Missing key.*decoder.conv_t_1.bias'):
        VQVAETokenizer(str(tmp_path / 'vqvae.pt'))
