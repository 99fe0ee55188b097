# Copyright (c) mmcim contributors. All rights reserved.
"""The operators that stand in for mmcv's compiled ones, against loops."""

import math
from importlib.util import find_spec

import pytest
import torch

from mmcim import mmcv_ops


def overlap(a, b, offset):
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    both = max(width, 0) * max(height, 0)
    area = sum((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    return both / (area - both)


@pytest.mark.parametrize('offset', [0, 1])
def test_nms(offset):
    torch.manual_seed(0)
    corners = torch.rand(60, 2) * 20
    boxes = torch.cat((corners, corners + 2 + torch.rand(60, 2) * 10), dim=1)
    scores = torch.rand(60)
    kept = []
    for i in scores.argsort(descending=True).tolist():
        first = boxes[i].tolist()
        if all(overlap(first, boxes[j].tolist(), offset) <= 0.3 for j in kept):
            kept.append(i)
    found = mmcv_ops.nms(boxes, scores, iou_threshold=0.3, offset=offset)
    assert found.tolist() == kept


def bilinear(plane, y, x):
    y, x = max(y, 0), max(x, 0)
    top, left = math.floor(y), math.floor(x)
    value = 0
    for row, wy in ((top, 1 - y + top), (top + 1, y - top)):
        for column, wx in ((left, 1 - x + left), (left + 1, x - left)):
            value += wy * wx * plane[row, column]
    return value


def pooled(maps, roi):
    """Means over 2 x 2 samples per bin; half a pixel is between corner and centre."""
    image, *corners = roi
    left, top, right, bottom = (0.5 * c - 0.5 for c in corners)
    high, wide = (bottom - top) / 2, (right - left) / 3
    rows = []
    for i in range(2):
        for j in range(3):
            samples = [
                bilinear(maps[int(image), 0], top + (i + a) * high, left + (j + b) * wide)
                for a in (0.25, 0.75)
                for b in (0.25, 0.75)
            ]
            rows.append(sum(samples) / 4)
    return torch.stack(rows).view(1, 2, 3)


def test_roi_align_and_its_gradient():
    torch.manual_seed(0)
    maps = torch.rand(2, 1, 12, 12, requires_grad=True)
    rois = torch.tensor([[0, 2.0, 3, 11, 15], [1, 1.5, 4, 16, 9]])
    expected = torch.stack([pooled(maps, roi.tolist()) for roi in rois])
    found = mmcv_ops.roi_align(maps, rois, (2, 3), 0.5, 2)
    torch.testing.assert_close(found, expected)
    weights = torch.rand(2, 1, 2, 3)
    found, expected = (
        torch.autograd.grad(out, maps, weights)[0] for out in (found, expected)
    )
    torch.testing.assert_close(found, expected)


def test_other_operators_say_what_is_missing():
    with pytest.raises(NotImplementedError, match="'deform_conv_forward' needs compiled"):
        mmcv_ops.deform_conv_forward(1, key=2)
    with pytest.raises(NotImplementedError, match="'roi_align with max' needs compiled"):
        mmcv_ops.roi_align(torch.zeros(1), torch.zeros(1), 2, pool_mode='max')
    assert not hasattr(mmcv_ops, '__path__')


@pytest.mark.skipif(
    not find_spec('mmdet'), reason='mmdetection is missing: .ci/install_det.sh'
)
def test_mmcv_uses_them():
    from mmcv.ops import RoIAlign, batched_nms

    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [0, 0, 8, 7]])
    scores, classes = torch.tensor([0.5, 0.9, 0.4]), torch.tensor([0, 0, 1])
    _, kept = batched_nms(boxes, scores, classes, dict(type='nms', iou_threshold=0.5))
    assert kept.tolist() == [1, 2]
    maps = torch.rand(1, 2, 8, 8, requires_grad=True)
    regions = torch.tensor([[0.0, 1, 1, 6, 7]])
    found = RoIAlign(2, spatial_scale=0.5)(maps, regions)
    torch.testing.assert_close(found, mmcv_ops.roi_align(maps, regions, 2, 0.5))
    assert found.requires_grad
