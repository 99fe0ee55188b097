# Copyright (c) mmcim contributors. All rights reserved.
"""What networks have learned, against independent statements of the formulas."""

from copy import copy

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image
from torch.testing import assert_close

from mmcim.apis import (
    attention_maps,
    extract_features,
    images_per_code,
    load_backbone,
    load_tokenizer,
    nearest_neighbours,
    pca_colours,
    tsne,
)
from mmcim.apis.see import attention_weights
from mmcim.datasets import fit_image
from mmcim.models.tokenizers.base import BaseTokenizer
from mmcim.utils import ConfigError

from .conftest import ARCH

SIZES = dict(arch=ARCH, img_size=32, patch_size=8)
ENCODERS = {
    'own bias': dict(SIZES, type='FusedBEiTViT', use_rel_pos_bias=True),
    'shared bias': dict(SIZES, type='FusedBEiTPretrainViT'),
    'no bias': dict(SIZES, type='FusedBEiTViT', use_rel_pos_bias=False),
    'ViT': dict(SIZES, type='VisionTransformer', out_type='cls_token'),
    'fixed positions': dict(SIZES, type='FixedPositionViT', out_type='featmap'),
    'MAE': dict(SIZES, type='MAEViT'),
    'no class token': dict(
        SIZES, type='VisionTransformer', with_cls_token=False, out_type='raw'
    ),
}


@pytest.fixture(scope='module')
def images():
    """Three of 40 x 32 px."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 40, 3))
    return [Image.fromarray(image.astype(np.uint8)) for image in pixels]


@pytest.fixture(params=ENCODERS, scope='module')
def encoder(request, write_backbone):
    return load_backbone(write_backbone(ENCODERS[request.param]))


@pytest.fixture(scope='module')
def resnet(write_backbone):
    return load_backbone(write_backbone(dict(type='ResNet', depth=18)))


def find_attention(network, layer=-1):
    return network.layers[layer].attn


def run_recording(network, layer, images):
    """What goes into an attention and comes out of it, in a forward pass of its own."""
    seen = []
    hook = find_attention(network, layer).register_forward_hook(
        lambda module, args, output: seen.append((args, output))
    )
    extract_features(network, images)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize('layer', [0, -1])
def test_weights_give_the_output_of_the_attention(encoder, images, layer):
    """With the values they recompose what the fused kernel computes."""
    attention = find_attention(encoder, layer)
    args, output = run_recording(encoder, layer, images)
    with torch.no_grad():
        weights = attention_weights(attention, *args)
        _, _, v = attention.qkv(args[0]).chunk(3, dim=-1)
        if hasattr(attention, 'v_bias'):
            v = v + attention.v_bias
        heads = [
            weights[:, head] @ part
            for head, part in enumerate(v.chunk(attention.num_heads, dim=-1))
        ]
        expected = attention.proj(torch.cat(heads, dim=-1))
    assert_close(expected, output, rtol=1e-4, atol=1e-5)
    assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
    assert weights.std(dim=-1).mean() > 1e-4  # far from uniform


@pytest.mark.parametrize('layer', [0, -1])
def test_maps_are_the_rows_of_the_class_token(encoder, images, layer):
    args, _ = run_recording(encoder, layer, images)
    weights = attention_weights(find_attention(encoder, layer), *args).detach()
    own = getattr(encoder, 'out_type', None)
    found = attention_maps(encoder, images, layer)
    assert found.shape == (3, 2, 4, 4)
    assert encoder.out_type == own
    for y in range(4):
        for x in range(4):
            if weights.size(-1) == 17:
                expected = weights[:, :, 0, 1 + 4 * y + x]
            else:
                expected = weights[..., 4 * y + x].mean(dim=2)
            assert_close(found[:, :, y, x], expected)


def test_maps_of_other_sizes_and_batches(encoder, images):
    found = attention_maps(encoder, images, img_size=(48, 32), batch_size=2)
    assert found.shape == (3, 2, 6, 4)
    again = attention_maps(encoder, images, img_size=(48, 32), batch_size=3)
    assert_close(found, again)


def test_relative_position_bias_is_in_the_maps(write_backbone, images):
    network = load_backbone(write_backbone(ENCODERS['own bias']))
    before = attention_maps(network, images)
    bias = network.layers[-1].attn.relative_position_bias_table
    with torch.no_grad():
        bias[-3:-1] -= 20  # from the class token to patches, and back
    after = attention_maps(network, images)
    assert before.sum(dim=(2, 3)).min() > 0.1
    assert after.sum(dim=(2, 3)).max() < 1e-4


def test_hooks_are_removed(encoder, images, tmp_path):
    attention = find_attention(encoder)
    attention_maps(encoder, images)
    with pytest.raises(ConfigError, match='missing.png'):
        attention_maps(encoder, [tmp_path / 'missing.png'])
    assert not attention._forward_pre_hooks


def test_attention_errors_name_the_problem(resnet, encoder, images):
    with pytest.raises(ConfigError, match='ResNet has no known attention: expected ViT'):
        attention_maps(resnet, images)
    for layer in (2, -3):
        with pytest.raises(ConfigError, match=f'layer={layer}: expected 0 to 1'):
            attention_maps(encoder, images, layer)


def reference_colours(maps):
    """By NumPy's SVD, each component up to its sign; (M, C) -> (M, 3)."""
    centred = maps - maps.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    components = centred @ directions[:3].T
    low, high = np.percentile(components, (1, 99), axis=0)
    return np.clip((components - low) / (high - low), 0, 1)


def test_colours_are_principal_components(resnet, encoder, images):
    for network, grid in ((encoder, (4, 4)), (resnet, (2, 2))):
        size = 32 if network is encoder else 64
        colours = pca_colours(network, images, img_size=size)
        assert colours.shape == (3, *grid, 3)
        assert colours.dtype == torch.float32
        maps = feature_maps(network, images, size)
        rows = maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1]).astype(float)
        found = colours.flatten(0, 2).double().numpy()
        expected = reference_colours(rows)
        for i in range(3):
            distances = [
                np.abs(found[:, i] - values).max()
                for values in (expected[:, i], 1 - expected[:, i])
            ]
            assert min(distances) < 1e-3


def feature_maps(network, images, size):
    """(N, C, h, w), without extract_features."""
    batch = np.stack([np.asarray(fit_image(image, (size, size))) for image in images])
    mean, std = map(torch.tensor, network.normalization)
    batch = (torch.tensor(batch) - mean) / std
    network = copy(network)
    network.out_type = 'featmap'
    with torch.no_grad():
        (maps,) = network(batch.permute(0, 3, 1, 2).float())
    return maps.numpy()


def test_colours_are_the_same_in_all_images(encoder, images):
    """The components are those of all images together."""
    found = pca_colours(encoder, [images[0], images[1], images[0]])
    assert_close(found[0], found[2])
    assert not torch.equal(found[0], found[1])
    assert found.min() >= 0 and found.max() <= 1
    again = pca_colours(encoder, [images[0], images[1], images[0]], batch_size=1)
    assert_close(found, again, rtol=0, atol=1e-3)


def test_colours_of_equal_patches_are_no_nan(resnet):
    grey = Image.new('RGB', (64, 64), 'gray')
    assert pca_colours(resnet, [grey, grey], img_size=64).isfinite().all()


def test_backbone_without_feature_maps_raises(vit, images):
    network = load_backbone(vit)
    network.forward = lambda x: (x.flatten(1),)
    with pytest.raises(ConfigError, match='VisionTransformer gives no feature maps'):
        pca_colours(network, images)


def test_neighbours_by_a_loop():
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    similarities, indices = nearest_neighbours(features, k=3, queries=[5, 0])
    for row, query in enumerate([5, 0]):
        cosines = {}
        for other in range(7):
            if other != query:
                a, b = features[query].numpy(), features[other].numpy()
                cosines[other] = a @ b / np.sqrt((a @ a) * (b @ b))
        nearest = sorted(cosines, key=cosines.get, reverse=True)[:3]
        assert indices[row].tolist() == nearest
        expected = torch.tensor([cosines[other] for other in nearest])
        assert_close(similarities[row], expected)
    assert nearest_neighbours(features, k=6).indices.shape == (7, 6)


def test_copies_are_neighbours_of_one_another():
    features = torch.eye(4)[[0, 1, 0, 1]]
    similarities, indices = nearest_neighbours(features, k=1)
    assert indices.flatten().tolist() == [2, 3, 0, 1]
    assert_close(similarities.flatten(), torch.ones(4))


@pytest.mark.parametrize('k', [0, 3])
def test_too_many_neighbours_raise(k):
    with pytest.raises(ConfigError, match=f'k={k}: expected 1 to 2'):
        nearest_neighbours(torch.eye(3), k)


def test_tsne_separates_what_differs():
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(16)[:2].repeat_interleave(20, dim=0)
    features = centres + 0.1 * torch.randn(40, 16, generator=generator)
    # Lengths have no part in it.
    features *= torch.linspace(1, 100, 40)[:, None]
    points = tsne(features)
    assert points.shape == (40, 2) and points.dtype == torch.float32
    assert torch.equal(points, tsne(features))
    distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
    classes = torch.arange(40) // 20
    assert torch.equal(classes[distances.argmin(dim=1)], classes)


def test_tsne_of_few_images():
    assert tsne(torch.eye(4)).isfinite().all()
    with pytest.raises(ConfigError, match='t-SNE of 3 images: expected at least 4'):
        tsne(torch.eye(3))


class Brightness(BaseTokenizer):
    """Codes are the eighths of a patch's mean brightness."""

    vocab_size, stride = 8, 4

    def _encode(self, images):
        means = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4)[:, 0]
        return (means * 8).long().clamp(max=7)

    def _decode(self, ids):
        grey = (ids[:, None] + 0.5) / 8
        return grey.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)


@pytest.fixture(scope='module')
def blocks():
    """40 images of 16 px whose 4 x 4 px have one grey each; few of them are bright."""
    random = np.random.default_rng(0)
    greys = (256 * random.random((40, 4, 4)) ** 3).astype(np.uint8)
    pixels = greys.repeat(4, 1).repeat(4, 2)[..., None].repeat(3, 3)
    return [Image.fromarray(image) for image in pixels]


def test_codes_by_a_loop(blocks):
    use = images_per_code(Brightness(), blocks, num_codes=3, img_size=16)
    patches = {}
    for image in blocks:
        for y in range(0, 16, 4):
            for x in range(0, 16, 4):
                grey = image.getpixel((x, y))[0]
                patches.setdefault(min(grey * 8 // 255, 7), []).append(grey / 255)
    counts = [len(patches.get(code, ())) for code in range(8)]
    assert use.counts.tolist() == counts
    assert use.codes.tolist() == sorted(range(8), key=lambda code: -counts[code])[:3]
    shares = [count / sum(counts) for count in counts if count]
    assert use.entropy == pytest.approx(-sum(p * np.log2(p) for p in shares), rel=1e-5)
    assert use.patches.shape == (3, 10, 3, 4, 4)
    for code, found, decoded in zip(use.codes.tolist(), use.patches, use.decoded):
        chosen = [
            patches[code][int(i)] for i in np.linspace(0, len(patches[code]) - 1, 10)
        ]
        expected = torch.tensor(chosen).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
        assert_close(found, expected.float(), rtol=0, atol=1e-6)
        assert_close(decoded, torch.full((3, 4, 4), (code + 0.5) / 8))


def test_codes_of_few_patches_and_few_codes():
    """No code without a patch; what is missing of ten patches is NaN."""
    grey = Image.new('RGB', (9, 9), (100, 100, 100))
    use = images_per_code(Brightness(), [grey], num_codes=5, img_size=9)
    assert use.counts.tolist() == [0, 0, 0, 4, 0, 0, 0, 0]
    assert use.codes.tolist() == [3]
    assert use.entropy == 0
    assert use.patches[0, :4].isfinite().all() and use.patches[0, 4:].isnan().all()


def test_kind_of_a_tokenizer_is_found(tmp_path, vit):
    network = MODELS.build(dict(type='DiscreteVAENet', stride=4, vocab_size=8, width=8))
    state = {f'backbone.{name}': value for name, value in network.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'iter_1.pth')
    tokenizer = load_tokenizer(tmp_path / 'iter_1.pth')
    assert type(tokenizer).__name__ == 'DiscreteVAE' and tokenizer.vocab_size == 8
    with pytest.raises(
        ConfigError, match='is no tokenizer: expected weights of D.*, VQVAE'
    ):
        load_tokenizer(vit)
    with pytest.raises(ConfigError, match='missing.pth does not exist'):
        load_tokenizer(tmp_path / 'missing.pth')


@pytest.mark.parametrize('value', [1.0, 0.0, torch.nan])
def test_tsne_of_equal_features_raises(value):
    with pytest.raises(ConfigError, match='all features are equal'):
        tsne(torch.full((8, 3), value))
