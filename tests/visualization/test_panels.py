# Copyright (c) mmcim contributors. All rights reserved.
import math
import re

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS

from mmcim.visualization import make_panels

from ..models.selfsup.conftest import configs, inputs, revdet  # noqa: F401
from ..models.selfsup.test_baselines import beit, mae, mocov3, simmim
from ..models.selfsup.test_corrim import corrim
from ..models.selfsup.test_dino import dino


def headings(panels):
    """Without the lines below the names."""
    return {heading.split('\n')[0]: images for heading, images in panels.items()}


def test_panels_match_training_steps(configs, inputs):  # noqa: F811
    torch.manual_seed(0)
    model = MODELS.build(configs).eval()
    detector = MODELS.build(revdet()).eval()
    batch = model.corrupt(inputs)
    model.corrupt = lambda *args: batch
    panels = headings(make_panels(model, inputs, detector=detector).images)
    assert list(panels) == [
        'original',
        'tokenizer',
        'mask',
        'corrupted',
        'target',
        'predicted',
        'restored',
        'replaced',
        'detected',
    ]
    for name, images in panels.items():
        assert images.shape == (2, 3, 32, 32), name
        assert images.min() >= 0 and images.max() <= 1, name

    denormalize = model.data_preprocessor.denormalize
    torch.testing.assert_close(panels['corrupted'], denormalize(batch.corrupted))
    hidden = batch.mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert (panels['mask'].permute(0, 2, 3, 1)[hidden] == 0.5).all()
    # red over blue where the sample differs from the golden token
    replaced = batch.mixed != batch.golden
    red, _, blue = panels['replaced'].unbind(1)
    cells = (red - blue)[:, 4::8, 4::8]
    assert (cells > 0).equal(replaced)


def test_revdet_panel_shows_detection(configs, inputs):  # noqa: F811
    model = MODELS.build({**configs, 'enhancer': revdet()}).eval()
    panels, legend = make_panels(model, inputs)
    assert list(legend) == ['replaced', 'original']
    assert list(panels)[-2:] == ['replaced', 'detected']


def waves(count, size=32):
    """Smooth images, as photographs are: sums of a few waves, (count, 3, size, size)."""
    generator = torch.Generator().manual_seed(0)
    place = torch.arange(size) / size * 2 * torch.pi
    rows, columns = torch.meshgrid(place, place, indexing='ij')
    images = torch.zeros(count, 3, size, size)
    for frequency in range(1, 6):
        angle, phase = 6.3 * torch.rand(2, count, 3, 1, 1, generator=generator)
        along = angle.cos() * rows + angle.sin() * columns
        images += (frequency * along + phase).sin() / frequency
    return images


def decibels(images, originals):
    """PSNR in a loop, images in [0, 1]."""
    values = []
    for image, original in zip(images, originals):
        error = sum((a - b) ** 2 for a, b in zip(image.flatten(), original.flatten()))
        values.append(-10 * math.log10(error / image.size))
    return sum(values) / len(values)


def corrupt_waves(model, inputs):  # noqa: F811
    """Corrupt waves by patches of other waves and return the panels."""
    images, other = waves(4).chunk(2)
    hidden = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    corrupted = torch.where(F.interpolate(hidden.float(), (32, 32)) > 0, other, images)
    batch = model.corrupt(inputs)._replace(images=images, corrupted=corrupted)
    model.corrupt = lambda *args: batch
    return batch


def test_psnr_of_zeros_is_below_fitted_prediction(configs, inputs):  # noqa: F811
    model = MODELS.build(configs).eval()
    images = corrupt_waves(model, inputs).images
    fitted = torch.zeros_like(images, requires_grad=True)
    optimizer = torch.optim.Adam([fitted], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        model.enhancer.head.loss(fitted, images).backward()
        optimizer.step()

    found, captioned = {}, {}
    inputs = dict(inputs, images=images)
    for name, pred in dict(
        fitted=fitted.detach(), zeros=torch.zeros(2, 3, 32, 32)
    ).items():
        model.enhancer.predict = lambda corrupted, pred=pred: pred
        panels = make_panels(model, inputs).images
        captions = {heading.split('\n')[0]: heading for heading in panels}
        panels = headings(panels)
        for panel, truth in dict(predicted='target', restored='original').items():
            shown = decibels(panels[panel].numpy(), panels[truth].numpy())
            own, zeros = re.findall(r'[\d.]+', captions[panel])
            assert float(own) == pytest.approx(shown, abs=0.2)
            found[name, panel] = float(own)
            captioned[panel] = float(zeros)
    # The second number of a caption is what a prediction of zeros gets.
    assert captioned == {panel: found['zeros', panel] for panel in captioned}
    assert found['fitted', 'predicted'] > found['zeros', 'predicted'] + 10
    assert found['fitted', 'restored'] > found['zeros', 'restored'] + 1


def test_restored_image_does_not_use_original(configs, inputs):  # noqa: F811
    """It is computed from the prediction and the corrupted image only."""
    model = MODELS.build(configs).eval()
    batch = corrupt_waves(model, inputs)
    pred = torch.randn(2, 3, 32, 32)
    model.enhancer.predict = lambda corrupted: pred
    restored = []
    for images in (batch.images, batch.images.flip(0)):
        model.corrupt = lambda *args, images=images: batch._replace(images=images)
        panels = make_panels(model, dict(inputs, images=images)).images
        restored.append(headings(panels)['restored'])
    assert restored[0].equal(restored[1])


def images_of(model, size=32):
    """What the data preprocessor gives of two images of noise."""
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(256, (2, 3, size, size), generator=generator)
    torch.manual_seed(0)
    data = model.data_preprocessor(dict(inputs=batch.to(torch.uint8)), training=True)
    return data['inputs']


def built(config):
    model = MODELS.build(config).eval()
    return model, images_of(model)


@torch.no_grad()
def drawn(model, given):
    torch.manual_seed(0)
    return make_panels(model, given)


def hidden_pixels(mask, patch=8):
    return mask.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]


def assert_images(panels, *shape):
    for name, images in panels.items():
        assert images.shape == shape, name
        assert images.min() >= 0 and images.max() <= 1, name


def test_corrim_finds_regions_in_the_context():
    model = MODELS.build(corrim()).eval()
    given = images_of(model, 48)
    panels, legend = drawn(model, given)
    names = [f'{name} {i}' for i in (1, 2, 3) for name in ('exemplar', 'region', 'found')]
    assert list(panels) == ['context', *names] and list(legend) == ['inside', 'outside']
    assert_images(panels, 2, 3, 32, 32)
    denormalize = model.data_preprocessor.denormalize
    assert panels['context'].equal(denormalize(given['context']))
    # 16 px enlarged to 32.
    crops = denormalize(given['exemplars'][:, 1])
    assert panels['exemplar 2'][..., ::2, 1::2].equal(crops)
    red, _, blue = panels['region 2'].unbind(1)
    assert (red > blue).equal(given['regions'][:, 1])
    found = model.predict(given)[:, 1].softmax(dim=1)[:, 1]
    red, _, blue = panels['found 2'].unbind(1)
    # (0.85 - 0.15) p - (0.6 - 0.13) (1 - p), of which 0.65 is shown
    shown = (red - blue) / 0.65
    torch.testing.assert_close(shown, 0.7 * found - 0.47 * (1 - found))


def conmim():
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
    return dict(
        type='ConMIM',
        backbone=dict(type='FusedBEiTPretrainViT', arch=arch, img_size=32, patch_size=8),
        neck=dict(
            type='NonLinearNeck',
            in_channels=16,
            hid_channels=16,
            out_channels=8,
            with_avg_pool=False,
        ),
        masking=dict(type='RatioMasking', ratio=0.5),
    )


def test_conmim_compares_one_masked_patch_with_all():
    model, given = built(conmim())
    panels = drawn(model, given).images
    assert list(panels) == ['original', 'masked', 'query', 'momentum', 'similarity']
    assert_images(panels, 2, 3, 32, 32)
    torch.manual_seed(0)
    mask = model.draw_mask(given['images'])
    queries = model._encode(model, given['images'], mask)
    keys = model._encode(model.momentum_encoder, given['momentum_images'], None)
    red, _, blue = panels['query'].unbind(1)
    (cells,) = torch.unbind((red > blue)[None, :, 4::8, 4::8])
    grey = panels['momentum'].mean(dim=1)
    for i in range(2):
        (place,) = cells[i].flatten().nonzero().flatten().tolist()
        masked = mask[i].flatten().nonzero().flatten().tolist()
        assert place == masked[(len(masked) + 1) // 2 - 1]
        cosine = F.cosine_similarity(queries[i, place][None], keys[i], dim=1).view(4, 4)
        # red is 0.13 + (0.85 - 0.13) x, of which 0.65 is shown over the grey image
        red = (panels['similarity'][i, 0] - 0.35 * grey[i])[4::8, 4::8] / 0.65
        torch.testing.assert_close((red - 0.13) / 0.72, (cosine + 1) / 2)


def test_beit_decodes_its_predicted_tokens():
    model, given = built(beit())
    panels = drawn(model, given).images
    assert list(panels) == ['original', 'mask', 'tokenizer', 'predicted']
    assert_images(panels, 2, 3, 32, 32)
    torch.manual_seed(0)
    mask = model.draw_mask(given['images'])
    golden = model.tokenizer.encode(given['tokenizer_images'])
    tokens = model.backbone(given['images'], mask)[-1][:, 1:]
    guess = (
        (tokens @ model.head.fc.weight.T + model.head.fc.bias).argmax(-1).view(2, 4, 4)
    )
    expected = torch.where(mask, guess, golden)
    for name, ids in dict(tokenizer=golden, predicted=expected).items():
        assert panels[name][:, 0, ::8, ::8].equal(model.tokenizer.levels[ids])


@pytest.mark.parametrize('norm_pix', [False, True])
def test_mae_predictions(norm_pix):
    config = mae()
    config['head']['norm_pix'] = norm_pix
    model, given = built(config)
    panels = headings(drawn(model, given).images)
    shown = ['target', 'predicted'] if norm_pix else ['restored']
    assert list(panels) == ['original', 'mask', *shown]
    assert_images(panels, 2, 3, 32, 32)
    torch.manual_seed(0)
    latent, mask, restore = model.backbone(given['images'], mask=True)
    pixels = model.neck(latent, restore).view(2, 4, 4, 8, 8, 3)
    pred = pixels.permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 32, 32)
    hidden = hidden_pixels(mask.view(2, 4, 4) > 0)
    if norm_pix:
        torch.testing.assert_close(panels['predicted'], (0.5 + pred / 4).clamp(0, 1))
    else:
        expected = torch.where(hidden, pred, given['images'])
        denormalize = model.data_preprocessor.denormalize
        torch.testing.assert_close(panels['restored'], denormalize(expected))
    grey = torch.where(hidden, torch.tensor(0.5), panels['original'])
    assert panels['mask'].equal(grey)


def test_simmim_fills_masked_patches():
    model, given = built(simmim())
    panels = headings(drawn(model, given).images)
    assert list(panels) == ['original', 'mask', 'restored']
    torch.manual_seed(0)
    hidden = hidden_pixels(model.draw_mask(given['images']))
    same = (panels['restored'] == panels['original']) | hidden
    assert same.all()
    assert (panels['restored'] != panels['original'])[hidden.expand(-1, 3, -1, -1)].any()


def test_mocov3_crops():
    model = MODELS.build(mocov3()).eval()
    crops = list(torch.randint(256, (2, 2, 3, 32, 32), dtype=torch.uint8))
    given = model.data_preprocessor(dict(inputs=crops), training=True)['inputs']
    panels = drawn(model, given).images
    assert list(panels) == ['first crop', 'second crop']
    for images, key in zip(panels.values(), ('images', 'second_crops'), strict=True):
        assert images.equal(model.data_preprocessor.denormalize(given[key]))


def test_dino_crops():
    model = MODELS.build(dino()).eval()
    crops = list(torch.randint(256, (2, 2, 3, 32, 32), dtype=torch.uint8))
    given = model.data_preprocessor(dict(inputs=crops), training=True)['inputs']
    panels = drawn(model, given).images
    names = ['first crop', 'second crop', *(f'local crop {i}' for i in range(1, 5))]
    assert list(panels) == names
    assert {images.shape for images in panels.values()} == {(2, 3, 32, 32)}
    expected = model.data_preprocessor.denormalize(given['local_crops'][:, 2])
    assert panels['local crop 3'][..., ::2, ::2].equal(expected)


def test_tokenizer_reconstruction():
    network = dict(type='DiscreteVAENet', vocab_size=8, width=8, depth=1, code_dims=4)
    model, given = built(dict(type='DiscreteVAETrainer', backbone=network))
    panels = drawn(model, given).images
    (name,) = [name for name in panels if name.startswith('restored\n')]
    expected = decibels(panels[name].numpy(), given['tokenizer_images'].numpy())
    assert float(name.split()[1]) == pytest.approx(expected, abs=0.06)


def test_masked_input_has_no_tokenizer_panel(configs):  # noqa: F811
    config = {**configs, 'tokenizer': None, 'generator': None, 'grid': (4, 4)}
    model, given = built(config)
    panels = headings(drawn(model, given).images)
    expected = ['original', 'mask', 'corrupted', 'target', 'predicted', 'restored']
    assert list(panels) == expected
