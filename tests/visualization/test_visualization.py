# Copyright (c) mmcim contributors. All rights reserved.
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from PIL import Image

from mmcim.visualization import cim_panels, save_grid

from ..models.selfsup.conftest import configs, inputs, revdet  # noqa: F401


def headings(panels):
    """Without the lines below the names."""
    return {heading.split('\n')[0]: images for heading, images in panels.items()}


def test_panels_match_training_steps(configs, inputs):  # noqa: F811
    torch.manual_seed(0)
    model = MODELS.build(configs).eval()
    detector = MODELS.build(revdet()).eval()
    batch = model.corrupt(inputs)
    model.corrupt = lambda *args: batch
    panels = headings(cim_panels(model, inputs, detector=detector))
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
    panels = cim_panels(model, inputs)
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
        panels = cim_panels(model, inputs)
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
        panels = cim_panels(model, dict(inputs, images=images))
        restored.append(headings(panels)['restored'])
    assert restored[0].equal(restored[1])


def test_grid_has_one_column_per_panel(tmp_path):
    panels = {'black': torch.zeros(3, 3, 8, 8), 'white': torch.ones(3, 3, 8, 8)}
    path = tmp_path / 'new' / 'grid.png'
    save_grid(panels, path, min_side=16)
    image = np.asarray(Image.open(path))
    assert image.shape == (18 + 3 * 20 + 4, 2 * 20 + 4, 3)
    assert (image[22:34, 6:18] == 0).all() and (image[22:34, 26:38] == 255).all()
    assert [file.name for file in path.parent.iterdir()] == ['grid.png']


def test_multi_line_headings(tmp_path):
    panels = dict.fromkeys(['a', 'b\nfirst\nsecond'], torch.zeros(1, 3, 8, 8))
    save_grid(panels, tmp_path / 'x.png', min_side=96)
    image = np.asarray(Image.open(tmp_path / 'x.png'))
    assert image.shape == (3 * 18 + 100 + 4, 2 * 100 + 4, 3)
    caption = image[18:54] < 128
    assert not caption[:, :100].any() and caption[:, 100:].any()


def test_failed_grid_write_leaves_no_file(tmp_path):
    with pytest.raises(KeyError, match='.unknown'):
        save_grid({'a': torch.zeros(1, 3, 8, 8)}, tmp_path / 'grid.unknown')
    assert list(tmp_path.iterdir()) == []
