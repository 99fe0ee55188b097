# Copyright (c) mmcim contributors. All rights reserved.
"""The compiled operators of mmcv that Mask R-CNN needs, by torchvision's.

The OneDL build of mmcv comes without its compiled part, ``mmcv._ext``, and
``mmdet.models`` cannot be imported without it. This module takes its place. Regions of
interest are pooled bit by bit as mmcv does it; non-maximum suppression may only differ
between boxes of exactly equal scores.
"""

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchvision import ops


def replace_compiled() -> None:
    """Let mmcv use this module; needed before mmdetection is imported."""
    sys.modules['mmcv._ext'] = sys.modules[__name__]
    import mmcv.ops

    for module in (mmcv.ops, sys.modules['mmcv.ops.roi_align']):
        vars(module)['roi_align'] = roi_align  # the compiled one has no gradient here


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Suppress boxes that overlap with one of a higher score.

    Args:
        bboxes: Corners x1, y1, x2, y2 in pixels, (N, 4).
        scores: (N,).
        iou_threshold: Overlap, intersection over union, above which the lower goes.
        offset: 1 if the corner x2, y2 belongs to the box, as in mmdetection 1.x, else 0.

    Returns:
        int64, indices of what stays, by descending score.
    """
    extent = bboxes.new_tensor([0, 0, offset, offset])
    return ops.nms((bboxes + extent).float(), scores.float(), iou_threshold)


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = 'avg',
    aligned: bool = True,
) -> Tensor:
    """Pool regions of interest.

    Args:
        input: Feature maps, (B, C, H, W).
        rois: Index of the image and corners in pixels, (N, 5).
        output_size: Rows and columns of a pooled region, (h, w).
        spatial_scale: Pixels of the maps per pixel of the corners.
        sampling_ratio: Rows and columns of samples in a bin; 0 for as many as it has
            pixels.
        pool_mode: 'avg'.
        aligned: Whether a pixel's centre, not its corner, is at its index.

    Returns:
        (N, C, h, w).

    Raises:
        NotImplementedError: For maximum pooling.
    """
    if pool_mode != 'avg':
        _stand_in(f'roi_align with {pool_mode}')()
    return ops.roi_align(input, rois, output_size, spatial_scale, sampling_ratio, aligned)


def __getattr__(name: str) -> Callable:
    """Give a stand-in for any other operator: mmcv asks for them when it is imported."""
    if name.startswith('__'):
        raise AttributeError(name)
    return _stand_in(name)


def _stand_in(name: str) -> Callable:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f'the operator {name!r} needs compiled operators of mmcv, and this build has '
            'none: mmcim replaces nms and RoIAlign alone; take a model without it'
        )

    return missing
