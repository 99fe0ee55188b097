# Copyright (c) mmcim contributors. All rights reserved.
"""Comparison with OpenAI's implementation (PyPI's dall-e), including the file format."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from mmcim.models.tokenizers import DALLETokenizer

dall_e = pytest.importorskip('dall_e', reason='needs "pip install dall-e attrs"')


@torch.no_grad()
def official(**sizes):
    """OpenAI's encoder and decoder with random weights and non-zero biases."""
    torch.manual_seed(0)
    networks = encoder, _ = dall_e.Encoder(**sizes), dall_e.Decoder(**sizes)
    for network in networks:
        for name, parameter in network.named_parameters():
            if name.endswith('.b'):
                parameter.normal_(std=0.1)
            elif '.res_path.' in name:
                # Make up for the gain of 1/64 and the ReLUs, so that the residual
                # paths weigh as much as the others.
                parameter.mul_(1.75 * sizes.get('n_blk_per_group', 2))
    # Otherwise a few codes win at all positions.
    logits = encoder(dall_e.map_pixels(random_images(1, 64, 64)))
    encoder.blocks.output.conv.b -= logits.mean((0, 2, 3))
    return networks


def random_images(batch, height, width):
    """Random colours of 8 x 8 blocks with noise, covering [0, 1]."""
    generator = torch.Generator().manual_seed(1)
    blocks = torch.rand(batch, 3, height // 8, width // 8, generator=generator)
    noise = torch.rand(batch, 3, height, width, generator=generator)
    images = 0.8 * F.interpolate(blocks, scale_factor=8) + 0.2 * noise
    images[0, :, 0, 0], images[0, :, 0, 1] = 0, 1
    return images


def tensors_of(encoder, decoder):
    return {
        f'{part}.{key}': value
        for part, network in (('encoder', encoder), ('decoder', decoder))
        for key, value in network.state_dict().items()
    }


@torch.no_grad()
def assert_matches_openai(tokenizer, encoder, decoder, images):
    """Follow OpenAI's usage notebook step by step."""
    logits = encoder(dall_e.map_pixels(images))
    ids = logits.argmax(1)
    one_hot = F.one_hot(ids, encoder.vocab_size).permute(0, 3, 1, 2).float()
    stats = decoder(one_hot).float()
    restored = dall_e.unmap_pixels(torch.sigmoid(stats[:, :3]))

    assert len(ids.unique()) > 10
    assert restored.std() > 0.02
    features = tokenizer.encoder(dall_e.map_pixels(images), torch.float32)
    # Thousands of products per sum: the last digits, and with them the winner of a
    # near tie, depend on the processor's kernels.
    torch.testing.assert_close(
        tokenizer.encoder.logits(features), logits, rtol=1e-4, atol=1e-4
    )
    first, second = logits.topk(2, dim=1).values.unbind(1)
    sure = first - second > 1e-3
    assert sure.float().mean() > 0.9
    assert torch.equal(tokenizer.encode(images)[sure], ids[sure])
    torch.testing.assert_close(tokenizer.decode(ids), restored, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('sizes', 'shape'),
    [
        (dict(n_hid=64, vocab_size=512), (2, 48, 64)),
        (dict(n_hid=64, vocab_size=600, n_blk_per_group=1), (17, 16, 24)),
    ],
    ids=['narrow', 'shallow'],
)
def test_matches_openai_implementation(sizes, shape, tmp_path):
    encoder, decoder = official(**sizes)
    save_file(tensors_of(encoder, decoder), tmp_path / 'dalle.safetensors')
    tokenizer = DALLETokenizer(str(tmp_path / 'dalle.safetensors'))
    assert_matches_openai(tokenizer, encoder, decoder, random_images(*shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('sizes', 'shape'),
    [(dict(n_hid=64, vocab_size=512), (2, 48, 64)), (dict(), (1, 112, 112))],
    ids=['narrow', 'full'],
)
def test_converted_files_match_openai_implementation(sizes, shape, tmp_path, repo):
    encoder, decoder = official(**sizes)
    torch.save(encoder, tmp_path / 'encoder.pkl')
    torch.save(decoder, tmp_path / 'decoder.pkl')
    subprocess.run(
        [
            sys.executable,
            repo / 'tools/model_converters/convert_dalle.py',
            *('encoder.pkl', 'decoder.pkl', '--out', 'dalle.safetensors'),
            '--trust-pickle',
        ],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(repo)},
        check=True,
    )
    tokenizer = DALLETokenizer(str(tmp_path / 'dalle.safetensors'))
    assert tokenizer.vocab_size == encoder.vocab_size
    assert tokenizer.stride == 8
    assert_matches_openai(tokenizer, encoder, decoder, random_images(*shape))


@pytest.fixture(scope='module')
def narrow(tmp_path_factory):
    """A narrow pair of official networks, and the file with their weights."""
    encoder, decoder = official(n_hid=64, vocab_size=512)
    path = tmp_path_factory.mktemp('dalle') / 'dalle.safetensors'
    save_file(tensors_of(encoder, decoder), path)
    return encoder, decoder, path


@pytest.mark.gpu
@torch.no_grad()
def test_matches_openai_implementation_in_half_precision_on_gpu(narrow):
    encoder, decoder = narrow[0].cuda(), narrow[1].cuda()
    tokenizer = DALLETokenizer(str(narrow[2])).cuda()
    images = random_images(4, 112, 112).cuda()
    logits = encoder(dall_e.map_pixels(images))
    ids = logits.argmax(1)
    same = tokenizer.encode(images) == ids
    # float16 sums in another order: only near-ties may differ.
    assert same.float().mean() > 0.98
    one_hot = F.one_hot(ids, 512).permute(0, 3, 1, 2).float()
    stats = decoder(one_hot).float()
    restored = dall_e.unmap_pixels(torch.sigmoid(stats[:, :3]))
    torch.testing.assert_close(tokenizer.decode(ids), restored, rtol=0, atol=5e-3)
    encoder.cpu(), decoder.cpu()
    unmoved = DALLETokenizer(str(narrow[2]))
    assert tokenizer.cpu().encode(images.cpu()).equal(unmoved.encode(images.cpu()))


@pytest.mark.parametrize(
    ('precision', 'agreement', 'atol'), [('float16', 0.98, 5e-3), ('bfloat16', 0.9, 4e-2)]
)
def test_precision_changes_near_ties_only(narrow, precision, agreement, atol):
    images = random_images(2, 48, 64)
    exact = DALLETokenizer(str(narrow[2]), precision='float32')
    ids = exact.encode(images)
    assert DALLETokenizer(str(narrow[2])).encode(images).equal(ids)  # on a CPU
    tokenizer = DALLETokenizer(str(narrow[2]), precision=precision)
    assert (tokenizer.encode(images) == ids).float().mean() > agreement
    decoded = tokenizer.decode(ids)
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded, exact.decode(ids), rtol=0, atol=atol)
    assert not decoded.equal(exact.decode(ids))


def test_weights_stay_in_the_precision_and_return_exactly(narrow):
    """As when it is moved to a GPU, used, and moved back."""
    tokenizer = DALLETokenizer(str(narrow[2]))
    images, before = random_images(2, 48, 64), tokenizer.identity
    ids, tensors = tokenizer.encode(images), dict(tokenizer.named_buffers())
    decoded = tokenizer.decode(ids)
    tokenizer.precision = 'float16'
    for _ in range(2):
        tokenizer.encode(images), tokenizer.decode(ids)
    kept = {'encoder.blocks.output.conv', 'decoder.blocks.input'}
    for name, buffer in tokenizer.named_buffers():
        exact = name.rpartition('.')[0] in kept
        assert buffer.dtype == (torch.float32 if exact else torch.float16), name
    tokenizer.precision = None
    copied = copy.deepcopy(tokenizer)
    for other in (tokenizer, copied):
        assert other.encode(images).equal(ids) and other.decode(ids).equal(decoded)
        for name, buffer in other.named_buffers():
            assert buffer.equal(tensors[name]) and buffer.dtype == torch.float32
    assert tokenizer.identity == before and tokenizer.state_dict() == {}


def test_unknown_precision_raises(narrow):
    with pytest.raises(ValueError, match="precision='half' is none of"):
        DALLETokenizer(str(narrow[2]), precision='half')


def test_tokenizer_is_frozen(narrow):
    tokenizer = DALLETokenizer(str(narrow[2])).train()
    assert list(tokenizer.parameters()) == []
    assert tokenizer.state_dict() == {}
    assert not tokenizer.training
    assert len(list(tokenizer.buffers())) > 100


def test_identity_depends_on_every_weight(narrow, tmp_path):
    path = narrow[2]
    before = DALLETokenizer(str(path)).identity
    assert before['type'] == 'DALLETokenizer'
    assert before['source'] == str(path)
    # An unused channel is still part of the file's identity.
    tensors = load_file(path)
    tensors['decoder.blocks.output.conv.b'][5] += 1
    save_file(tensors, tmp_path / 'other.safetensors')
    after = DALLETokenizer(str(tmp_path / 'other.safetensors')).identity
    assert after['sha256'] != before['sha256']


def test_missing_file_error_names_download_commands():
    with pytest.raises(ValueError, match='none.safetensors does not exist') as caught:
        DALLETokenizer('weights/none.safetensors')
    message = str(caught.value)
    assert 'https://cdn.openai.com/dall-e/encoder.pkl' in message
    assert 'https://cdn.openai.com/dall-e/decoder.pkl' in message
    assert (
        'mmcim convert-dalle encoder.pkl decoder.pkl '
        '--out weights/dalle_dvae.safetensors --trust-pickle'
    ) in message


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda t: t.pop('encoder.blocks.input.w'), "missing 'encoder.blocks.input.w'"),
        (lambda t: t.pop('decoder.blocks.group_3.block_2.res_path.conv_4.b'),
         'Missing key.*decoder.blocks.group_3.block_2.res_path.conv_4.b'),
        (lambda t: t.update({'encoder.extra': torch.zeros(1)}),
         'Unexpected key.*encoder.extra'),
        (lambda t: t.update({'decoder.blocks.input.w': torch.zeros(128, 500, 1, 1)}),
         r'decoder.blocks.input.w.*\[128, 500, 1, 1\].*\[128, 512, 1, 1\]'),
    ],
)  # fmt: skip
def test_wrong_file_raises(narrow, tmp_path, change, message):
    tensors = load_file(narrow[2])
    change(tensors)
    save_file(tensors, tmp_path / 'bad.safetensors')
    with pytest.raises(ValueError, match=message):
        DALLETokenizer(str(tmp_path / 'bad.safetensors'))
