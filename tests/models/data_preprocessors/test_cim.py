# Copyright (c) mmcim contributors. All rights reserved.
from contextlib import suppress

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmpretrain.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def random_images(batch=4, height=32, width=32, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def build(**kwargs):
    config = dict(type='CIMDataPreprocessor', mean=MEAN, std=STD)
    return MODELS.build({**config, **kwargs})


def run(preprocessor, inputs, training=False):
    return preprocessor(dict(inputs=inputs), training)['inputs']


@pytest.mark.parametrize('to_rgb', [False, True])
def test_preprocessed_values(to_rgb):
    inputs = random_images()
    out = run(build(to_rgb=to_rgb), inputs)
    rgb = inputs[:, [2, 1, 0]] if to_rgb else inputs
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
    torch.testing.assert_close(out['images'], (rgb.float() - mean) / std)
    torch.testing.assert_close(out['tokenizer_images'], rgb.float() / 255)
    assert out['images'].dtype == out['tokenizer_images'].dtype == torch.float32


def test_evaluation_does_not_flip():
    inputs = random_images()
    state = torch.get_rng_state()
    out = run(build(flip_prob=1.0), inputs)
    torch.testing.assert_close(out['tokenizer_images'] * 255, inputs.float())
    assert torch.equal(state, torch.get_rng_state())


def test_images_and_tokenizer_input_are_flipped_together():
    inputs = random_images(batch=2000, height=4, width=4)
    torch.manual_seed(0)
    out = run(build(flip_prob=0.3, mean=[0] * 3, std=[255] * 3), inputs, training=True)
    torch.testing.assert_close(out['images'], out['tokenizer_images'])
    plain = inputs.float() / 255
    kept = (out['tokenizer_images'] - plain).abs().amax((1, 2, 3)) < 1e-6
    flipped = (out['tokenizer_images'] - plain.flip(-1)).abs().amax((1, 2, 3)) < 1e-6
    assert (kept ^ flipped).all()
    # Four standard deviations of a binomial distribution.
    assert abs(flipped.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5


@pytest.mark.parametrize('prob', [0.0, 1.0])
def test_flip_prob_1_flips_all(prob):
    inputs = random_images()
    out = run(build(flip_prob=prob), inputs, training=True)
    expected = inputs.flip(-1) if prob else inputs
    torch.testing.assert_close(out['tokenizer_images'], expected.float() / 255)


@pytest.mark.parametrize(
    'mode, kind', [('bicubic', Image.BICUBIC), ('bilinear', Image.BILINEAR)]
)
@pytest.mark.parametrize('size', [112, (56, 80)])
def test_resizing_matches_pillow(imagenette_mini, mode, kind, size):
    """Equal to Pillow's antialiased filter, except for rounding."""
    paths = sorted((imagenette_mini / 'val').rglob('*.JPEG'))[::100]
    images = [Image.open(path).convert('RGB') for path in paths]
    inputs = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    preprocessor = build(tokenizer_size=size, tokenizer_interpolation=mode)
    resized = run(preprocessor, inputs)['tokenizer_images']
    height, width = (size, size) if isinstance(size, int) else size
    assert resized.shape == (len(paths), 3, height, width)
    for image, found in zip(images, resized, strict=True):
        for channel, actual in zip(image.split(), found, strict=True):
            # Pillow computes floating-point images without rounding.
            exact = np.array(channel.convert('F').resize((width, height), kind))
            np.testing.assert_allclose(255 * actual, exact.clip(0, 255), atol=1e-3)
            # uint8 ones are rounded and clipped after each of the two passes.
            rounded = np.array(channel.resize((width, height), kind)).astype(float)
            difference = np.abs(255 * actual.numpy() - rounded)
            assert difference.mean() < 0.5 and difference.max() < 6


def test_resized_noise_is_antialiased_and_in_range():
    inputs = torch.where(random_images(2, 64, 64) > 127, 255, 0).to(torch.uint8)
    resized = run(build(tokenizer_size=32), inputs)['tokenizer_images']
    assert resized.min() >= 0 and resized.max() <= 1
    small = run(build(tokenizer_size=16), inputs)['tokenizer_images']
    # A filter over some 4x4 independent pixels leaves about a fourth of 0.5.
    assert small.std() < 0.18


def test_tokenizer_input_shows_flipped_image():
    inputs = random_images()
    flipped = run(build(flip_prob=1.0, tokenizer_size=16), inputs, training=True)
    plain = run(build(flip_prob=0.0, tokenizer_size=16), inputs, training=True)
    torch.testing.assert_close(
        flipped['tokenizer_images'], plain['tokenizer_images'].flip(-1)
    )


def test_grey_images_are_expanded_to_three_channels():
    inputs = random_images(channels=1)
    out = run(build(to_rgb=True), inputs)
    assert out['images'].shape == out['tokenizer_images'].shape == (4, 3, 32, 32)
    torch.testing.assert_close(
        out['tokenizer_images'], inputs.float().expand(-1, 3, -1, -1) / 255
    )


def test_preprocessor_has_no_gradient_and_no_state():
    preprocessor = build(tokenizer_size=16)
    out = run(preprocessor, random_images(), training=True)
    assert not out['images'].requires_grad and not out['tokenizer_images'].requires_grad
    assert preprocessor.state_dict() == {}
    assert list(preprocessor.parameters()) == []


def test_autocast_changes_nothing():
    preprocessor = build(tokenizer_size=16)
    expected = run(preprocessor, random_images())
    with torch.autocast('cpu', torch.bfloat16):
        out = run(preprocessor, random_images())
    torch.testing.assert_close(out, expected)


class OnTheDevice(TorchDispatchMode):
    """Asserts that no operation copies from the host, or rounds to half precision."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        assert len({tensor.device for tensor in tensors}) < 2, func
        assert not any(x.dtype in (torch.float16, torch.bfloat16) for x in tensors), func
        return out


def can_fake_a_gpu():
    with FakeTensorMode(), suppress(RuntimeError):
        return torch.empty(1).to('cuda').is_cuda


@pytest.mark.skipif(not can_fake_a_gpu(), reason='needs a GPU with this torch')
@pytest.mark.parametrize(
    ('kind', 'kwargs', 'crops'),
    [
        ('CIM', dict(tokenizer_size=16), 1),
        ('CorrIM', dict(context_size=16), 1),
        ('ConMIM', dict(online_augment=dict(type='StrongAugment')), 1),
        ('TwoCrops', dict(), 2),
    ],
)
def test_no_gpu_sync_and_no_autocast(kind, kwargs, crops, monkeypatch):
    """Without a GPU, on fake tensors with shapes and types."""
    # The order of the operations, the only draw on the host.
    monkeypatch.setattr(torch, 'randperm', np.arange)
    with FakeTensorMode():
        preprocessor = build(type=f'{kind}DataPreprocessor', to_rgb=True, **kwargs)
        preprocessor.to(torch.device('cuda'))
        inputs = torch.empty(2, 3, 32, 32, dtype=torch.uint8, device='cuda')
        monkeypatch.setattr(preprocessor, 'cast_data', lambda data: data)
        torch.set_autocast_enabled('cuda', True)
        torch.set_autocast_dtype('cuda', torch.bfloat16)
        try:
            with OnTheDevice():
                out = run(preprocessor, inputs if crops == 1 else [inputs] * crops, True)
        finally:
            torch.set_autocast_enabled('cuda', False)
    assert {tensor.device.type for tensor in out.values()} == {'cuda'}


def test_collated_samples_are_accepted():
    """Samples after PackInputs and default_collate."""
    pack = TRANSFORMS.build(dict(type='PackInputs'))
    images = random_images().permute(0, 2, 3, 1).numpy()
    mask = np.eye(4, dtype=int)
    samples = [pack(dict(img=img, mask=mask, gt_label=3)) for img in images]
    data = build(tokenizer_size=16)(default_collate(samples), training=True)
    assert data['inputs']['images'].shape == (4, 3, 32, 32)
    assert data['inputs']['tokenizer_images'].shape == (4, 3, 16, 16)
    assert len(data['data_samples']) == 4
    for sample in data['data_samples']:
        assert isinstance(sample, DataSample)
        assert sample.gt_label.tolist() == [3]
        np.testing.assert_array_equal(np.asarray(sample.mask), mask)


def test_data_samples_are_optional():
    assert build()(dict(inputs=random_images()))['data_samples'] is None


class TestWrongInput:
    def test_float_images_raise(self):
        with pytest.raises(TypeError, match='uint8.*torch.float32.*PackInputs'):
            run(build(), random_images().float())

    def test_wrong_number_of_channels_raises(self):
        with pytest.raises(TypeError, match=r'\(4, 5, 32, 32\)'):
            run(build(), random_images(channels=5))

    def test_uncollated_images_raise(self):
        samples = [dict(inputs=image) for image in random_images()]
        with pytest.raises(TypeError, match="not list .*'default_collate'"):
            build()(pseudo_collate(samples))
        with pytest.raises(TypeError, match="'default_collate'"):
            build()(pseudo_collate(samples[:2]))
