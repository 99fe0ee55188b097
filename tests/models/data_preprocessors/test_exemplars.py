# Copyright (c) mmcim contributors. All rights reserved.
import math

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image
from torch.nn import functional as F

from mmcim.models.data_preprocessors import (
    ExemplarSampling,
    Regions,
    crop_regions,
    region_maps,
)
from mmcim.models.data_preprocessors.exemplars import _enclose, _move_edges

CPU = torch.device('cpu')


def regions(*rows):
    """One image; rows of center x, y, width, height, degrees."""
    table = torch.tensor(rows, dtype=torch.float32)[None]
    return Regions(table[..., :2], table[..., 2:4], table[..., 4] * math.pi / 180)


def corners(center, sides, angle):
    """A region's corners in the image; y counts downwards."""
    rotated = complex(math.cos(angle), math.sin(angle))
    found = []
    for across in (-0.5, 0.5):
        for down in (-0.5, 0.5):
            offset = complex(across * sides[0], down * sides[1]) * rotated
            found.append((center[0] + offset.real, center[1] + offset.imag))
    return found


def uniformity(values, low, high):
    """Kolmogorov-Smirnov distance from the uniform distribution, times sqrt(n)."""
    values = ((values - low) / (high - low)).flatten().sort().values.double()
    steps = torch.arange(len(values)) / len(values)
    return ((values - steps).abs().max() * math.sqrt(len(values))).item()


def smooth_image(height, width):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 7, 7, generator=generator)
    image = F.interpolate(coarse, (height, width), mode='bicubic').clamp(0, 1)
    return (image * 255).round() / 255


def to_pil(image):
    array = (image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return Image.fromarray(array)


def test_boxes_follow_specified_distribution():
    torch.manual_seed(0)
    found = ExemplarSampling(degrees=(0, 0)).draw(2000, (224, 224), torch.device('cpu'))
    assert found.angle.shape == (2000, 6) and (found.angle == 0).all()
    width, height = (found.sides / 224).unbind(-1)
    area, log_ratio = width * height, (width / height).log()
    # 1.95 is exceeded once in a thousand seeds.
    fits = area < 1 / 3  # with every aspect ratio
    assert uniformity(area[fits], 0.05, 1 / 3) < 1.95
    assert uniformity(log_ratio[fits], -math.log(3), math.log(3)) < 1.95
    large = ~fits
    bound = -area[large].log()
    assert uniformity((log_ratio[large] / bound + 1) / 2, 0.0, 1.0) < 1.95
    x, y = (found.center / 224).unbind(-1)
    assert uniformity((x - width / 2) / (1 - width), 0.0, 1.0) < 1.95
    assert uniformity((y - height / 2) / (1 - height), 0.0, 1.0) < 1.95


def test_angles_are_uniform_integers():
    torch.manual_seed(0)
    found = ExemplarSampling().draw(3000, (224, 224), torch.device('cpu'))
    degrees = found.angle.double() * 180 / math.pi
    whole = degrees.round()
    assert (degrees - whole).abs().max() < 1e-4
    values, counts = whole.unique(return_counts=True)
    assert values.tolist() == list(range(-45, 45))
    assert counts.min() > 120 and counts.max() < 290  # 200 each, sigma 14


@pytest.mark.parametrize(('degrees', 'size'), [(30, (100, 100)), (-45, (90, 150))])
def test_region_encloses_rotated_box_within_image(degrees, size):
    device, height, width = torch.device('cpu'), *size
    torch.manual_seed(4)
    boxes = ExemplarSampling(degrees=(0, 0), fit='centred').draw(40, size, device)
    torch.manual_seed(4)
    sampling = ExemplarSampling(degrees=(degrees, degrees), fit='centred')
    found = sampling.draw(40, size, device)
    assert found.center.equal(boxes.center)
    angle, shrunk = degrees * math.pi / 180, 0
    for b in range(40):
        for e in range(6):
            center = boxes.center[b, e].tolist()
            # in the frame of the image that is rotated by the angle
            rotated = corners((0, 0), boxes.sides[b, e].tolist(), -angle)
            full = [max(values) - min(values) for values in zip(*rotated)]
            factor = 1.0
            for corner in corners((0, 0), full, angle):
                for middle, side, offset in zip(center, (width, height), corner):
                    room = min(middle, side - middle)
                    factor = min(factor, room / max(abs(offset), 1e-9))
            shrunk += factor < 1
            expected = torch.tensor(full) * factor
            torch.testing.assert_close(found.sides[b, e], expected, atol=1e-3, rtol=1e-4)
            for x, y in corners(center, found.sides[b, e].tolist(), angle):
                assert -1e-3 <= x <= width + 1e-3 and -1e-3 <= y <= height + 1e-3
    assert 20 < shrunk < 240


def edges_of_pixels(center, sides, degrees, size):
    """The region's edges by looking at each pixel of the rotated image's rows.

    A row or column is a list of points a tenth of a pixel apart.
    """
    angle = degrees * math.pi / 180
    turn = complex(math.cos(angle), math.sin(angle))

    def inside(x, y):
        point = complex(x, y) * turn
        return (
            abs(point.real) <= size[0] / 2 + 1e-6
            and abs(point.imag) <= size[1] / 2 + 1e-6
        )

    steps = [i / 10 for i in range(-2200, 2201)]

    def first_row(x, order):  # of column x from above (1) or below (-1)
        return next(y for y in steps[::order] if inside(x, y))

    def first_column(y, order):
        return next(x for x in steps[::order] if inside(x, y))

    middle = complex(center[0] - size[0] / 2, center[1] - size[1] / 2) / turn
    x1, x2 = middle.real - sides[0] / 2, middle.real + sides[0] / 2
    y1, y2 = middle.imag - sides[1] / 2, middle.imag + sides[1] / 2
    corners = [inside(x1, y1), inside(x2, y1), inside(x1, y2)]
    if degrees > 0:
        y1 = y1 if corners[0] else first_row(x1, 1)
        x2 = x2 if corners[1] else first_column(y1, -1)
        x1 = x1 if corners[2] else first_column(y2, 1)
        y2 = y2 if inside(x2, y2) else first_row(x2, -1)
    else:
        x1 = x1 if corners[0] else first_column(y1, 1)
        y1 = y1 if corners[1] else first_row(x2, 1)
        y2 = y2 if corners[2] else first_row(x1, -1)
        x2 = x2 if inside(x2, y2) else first_column(y2, -1)
    return x1, y1, x2, y2


@pytest.mark.parametrize('size', [(224, 224), (150, 90)])
def test_edges_move_as_released(size):
    torch.manual_seed(7)
    image, changed = torch.tensor(size, dtype=torch.float32), 0
    boxes = ExemplarSampling(num=2, degrees=(0, 0)).draw(20, size[::-1], CPU)
    degrees = torch.randint(-45, 45, boxes.angle.shape)
    full = Regions(
        boxes.center,
        _enclose(boxes.sides, degrees * math.pi / 180),
        degrees * math.pi / 180,
    )
    found = _move_edges(full, image)
    for b in range(20):
        for e in range(2):
            angle = degrees[b, e].item() * math.pi / 180
            expected = edges_of_pixels(
                full.center[b, e].tolist(), full.sides[b, e].tolist(),
                degrees[b, e].item(), size,
            )  # fmt: skip
            middle = complex(*(found.center[b, e] - image / 2).tolist())
            middle /= complex(math.cos(angle), math.sin(angle))
            half_x, half_y = (found.sides[b, e] / 2).tolist()
            edges = (
                middle.real - half_x, middle.imag - half_y,
                middle.real + half_x, middle.imag + half_y,
            )  # fmt: skip
            assert edges == pytest.approx(expected, abs=0.12)
            changed += not full.sides[b, e].allclose(found.sides[b, e], atol=0.1)
    assert changed > 20


def test_released_regions_have_the_released_statistics():
    """Of 2,000 draws of the released code at 224 px, see docs/choices.md."""
    torch.manual_seed(0)
    found = ExemplarSampling(num=1).draw(2000, (224, 224), CPU)
    width, height = (found.sides / 224).unbind(-1)
    area, log_aspect = width * height, (width / height).log().abs()
    error = (2 / 2000) ** 0.5  # of the difference of two means, over the deviation
    assert area.mean().item() == pytest.approx(0.316, abs=3 * 0.132 * error)
    assert area.std().item() == pytest.approx(0.132, rel=0.06)
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    quantiles = area.flatten().quantile(levels).tolist()
    assert quantiles == pytest.approx([0.102, 0.209, 0.321, 0.424, 0.525], abs=0.015)
    assert log_aspect.mean().item() == pytest.approx(0.340, abs=3 * 0.259 * error)
    assert log_aspect.std().item() == pytest.approx(0.259, rel=0.06)
    distance = (found.center - 112).norm(dim=-1).mean().item()
    assert distance == pytest.approx(35, abs=2)
    inside = region_maps(found, (224, 224), (160, 160), margin=0.4).float().mean().item()
    assert inside == pytest.approx(0.309, abs=0.01)
    for b in range(0, 2000, 4):
        for x, y in corners(*(values[b, 0].tolist() for values in found)):
            assert min(x, y) >= -2e-3 and max(x, y) <= 224 + 2e-3


SIZES = [((64, 64), (40, 40)), ((48, 80), (30, 40))]


@pytest.mark.parametrize(('image', 'cells'), SIZES)
def test_segmentation_maps_match_rotated_coordinates(image, cells):
    torch.manual_seed(1)
    found = ExemplarSampling(num=3).draw(2, image, torch.device('cpu'))
    maps = region_maps(found, image, cells)
    assert maps.shape == (2, 3, *cells) and maps.dtype == torch.bool
    inside_count = 0
    for b in range(2):
        for e in range(3):
            center = complex(*found.center[b, e].tolist())
            half = (found.sides[b, e] / 2).tolist()
            back = complex(math.cos(found.angle[b, e]), -math.sin(found.angle[b, e]))
            for i in range(cells[0]):
                for j in range(cells[1]):
                    x = (j + 0.5) * image[1] / cells[1]
                    y = (i + 0.5) * image[0] / cells[0]
                    point = (complex(x, y) - center) * back
                    room = min(half[0] - abs(point.real), half[1] - abs(point.imag))
                    if abs(room) > 1e-3:
                        assert maps[b, e, i, j].item() == (room > 0)
                        inside_count += room > 0
    assert inside_count > 500


def test_margin_erodes_region():
    one = regions((20, 20, 16, 24, 0))
    plain = region_maps(one, (40, 40), (20, 20))[0, 0]
    assert plain.sum() == 8 * 12
    # Centres of the outermost pixels are half a pixel from the edge.
    assert region_maps(one, (40, 40), (20, 20), margin=0.4)[0, 0].equal(plain)
    assert region_maps(one, (40, 40), (20, 20), margin=1.0)[0, 0].sum() == 6 * 10


CASES = [(112, 100, 120, 70, 33), (90, 120, 60, 60, -45), (112, 112, 130, 50, 10)]


@pytest.mark.parametrize('case', CASES)
def test_crops_and_maps_match_rotation_by_pillow(case):
    """The image is rotated with its canvas, the region's box cropped from it."""
    x, y, width, height, degrees = case
    image = smooth_image(224, 224)
    rotated = to_pil(image).rotate(degrees, Image.Resampling.NEAREST, expand=True)
    # Counter-clockwise, with y downwards.
    cos, sin = (f(math.radians(degrees)) for f in (math.cos, math.sin))
    dx, dy = x - 112, y - 112
    left = rotated.width / 2 + cos * dx + sin * dy - width / 2
    top = rotated.height / 2 - sin * dx + cos * dy - height / 2
    column, row = round(left), round(top)
    pixels = rotated.crop((column, row, column + width, row + height))
    expected = np.asarray(pixels.resize((64, 64), Image.Resampling.BICUBIC))
    expected = torch.from_numpy(expected.copy()).permute(2, 0, 1) / 255
    (crop,) = crop_regions(image, regions(case), 64)[0]
    # Pillow rounds twice, and places between two pixels otherwise.
    assert (crop - expected).abs().max() < 0.02
    assert (crop - expected).abs().mean() < 0.002
    assert crop.std() > 0.1

    mark = np.zeros((rotated.height, rotated.width), np.uint8)
    rows, cols = np.mgrid[: rotated.height, : rotated.width] + 0.5
    mark[
        (abs(cols - left - width / 2) < width / 2)
        & (abs(rows - top - height / 2) < height / 2)
    ] = 255
    back = Image.fromarray(mark).rotate(-degrees, Image.Resampling.NEAREST, expand=True)
    cut_x, cut_y = (back.width - 224) // 2, (back.height - 224) // 2
    truth = np.asarray(back.crop((cut_x, cut_y, cut_x + 224, cut_y + 224))) > 127
    found = region_maps(regions(case), (224, 224), (224, 224))[0, 0].numpy()
    union = (truth | found).sum()
    assert (truth & found).sum() > 0.97 * union
    assert abs(found.sum() - width * height) < 0.01 * width * height


@pytest.mark.parametrize('size', [(96, 96), (80, 112)])
def test_crop_warped_back_matches_its_map(size):
    image = smooth_image(*size)
    found = regions((50, 44, 56, 38, 37), (40, 50, 40, 40, -20))
    crops = crop_regions(image, found, 64)[0]
    maps = region_maps(found, size, size)[0]
    assert crops.shape == (2, 3, 64, 64)
    for e in range(2):
        center = complex(*found.center[0, e].tolist())
        width, height = found.sides[0, e].tolist()
        back = complex(math.cos(found.angle[0, e]), -math.sin(found.angle[0, e]))
        differences = []
        for i, j in maps[e].nonzero().tolist():
            point = (complex(j + 0.5, i + 0.5) - center) * back
            column = (point.real / width + 0.5) * 64 - 0.5
            row = (point.imag / height + 0.5) * 64 - 0.5
            assert -0.6 < row < 63.6 and -0.6 < column < 63.6
            value = crops[e][:, round(row), round(column)]
            differences.append((value - image[0, :, i, j]).abs().max().item())
        # A pixel beside the point, on a smooth image.
        assert max(differences) < 0.13
        shifted = (crops[e].mean((1, 2)) - image[0].mean((1, 2))).abs().max()
        assert shifted > 0.03  # the crop is no stand-in for the image


def test_downscaling_is_antialiased():
    noise = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    noise = (noise * 255).round() / 255
    (crop,) = crop_regions(noise, regions((112, 112, 224, 224, 0)), 64)[0]
    pillow = np.asarray(to_pil(noise).resize((64, 64), Image.Resampling.BICUBIC)) / 255
    # 0.289 without any filter.
    assert crop.std().item() == pytest.approx(pillow.std(), rel=0.1)
    assert np.corrcoef(crop.permute(1, 2, 0).flatten(), pillow.flatten())[0, 1] > 0.97


@pytest.mark.parametrize(
    'wrong',
    [
        dict(scale=(0.0, 0.4)),
        dict(scale=(0.5, 0.4)),
        dict(fit='other'),
        dict(fit='released', degrees=(10, -10)),
        dict(fit='released', degrees=(-46, 0)),
    ],
)
def test_invalid_sampling_arguments_raise(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExemplarSampling(**wrong)


# The data preprocessor


def preprocess(training=True, **kwargs):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (2, 3, 56, 56), generator=generator, dtype=torch.uint8)
    config = dict(
        type='CorrIMDataPreprocessor',
        context_size=40,
        exemplars=dict(type='ExemplarSampling', size=16),
        **kwargs,
    )
    preprocessor = MODELS.build(config)
    torch.manual_seed(3)
    return preprocessor, preprocessor(dict(inputs=inputs), training)['inputs']


def test_preprocessor_returns_context_exemplars_and_maps():
    preprocessor, inputs = preprocess(training=False)
    images = preprocessor.denormalize(inputs['images'])
    torch.manual_seed(3)
    found = preprocessor.exemplars.draw(2, (56, 56), torch.device('cpu'))
    context = F.interpolate(images, (40, 40), mode='bicubic', antialias=True)
    expected = preprocessor.normalize(context.clamp(0, 1))
    torch.testing.assert_close(inputs['context'], expected, atol=1e-4, rtol=0)
    crops = preprocessor.normalize(crop_regions(images, found, 16))
    torch.testing.assert_close(inputs['exemplars'], crops, atol=1e-4, rtol=0)
    assert inputs['regions'].equal(region_maps(found, (56, 56), (40, 40), margin=0.4))
    assert inputs.shape == (2, 3, 56, 56)


def test_flipping_exemplar_keeps_its_map():
    fixed = dict(augment=None, flip_prob=0.0)
    _, plain = preprocess(exemplar_flip_prob=0.0, **fixed)
    _, flipped = preprocess(exemplar_flip_prob=1.0, **fixed)
    assert flipped['exemplars'].equal(plain['exemplars'].flip(-1))
    for name in ('context', 'regions', 'images'):
        assert flipped[name].equal(plain[name]), name
    _, some = preprocess(exemplar_flip_prob=0.5, **fixed)
    same = (some['exemplars'] == plain['exemplars']).flatten(2).all(-1)
    flips = (some['exemplars'] == flipped['exemplars']).flatten(2).all(-1)
    assert (same ^ flips).all() and 0 < same.sum() < 12


def test_only_exemplars_are_colour_jittered():
    fixed = dict(flip_prob=0.0, exemplar_flip_prob=0.0)
    _, plain = preprocess(augment=None, **fixed)
    _, changed = preprocess(**fixed)
    moved = (changed['exemplars'] - plain['exemplars']).abs().flatten(2).mean(-1)
    assert (moved > 0.05).sum() >= 8
    for name in ('context', 'regions'):
        assert changed[name].equal(plain[name]), name


def test_label_margin_is_applied():
    _, plain = preprocess(training=False)
    _, eroded = preprocess(training=False, label_margin=2.0)
    assert (plain['regions'] | eroded['regions']).equal(plain['regions'])
    assert eroded['regions'].sum() < 0.9 * plain['regions'].sum()
