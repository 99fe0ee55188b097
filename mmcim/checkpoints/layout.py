# Copyright (c) mmcim contributors. All rights reserved.
"""Which tensors of a model are its backbone's, derived, or new in fine-tuning."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ..utils.nested import walk

Grid = tuple[int, int]
"""Rows and columns of patches."""

# Buffers that a module computes from its size: no weights, and wrong at another size.
_DERIVED = (
    'attn_mask',
    'freqs_cos',
    'freqs_sin',
    'relative_coords_table',
    'relative_position_index',
)


def backbone_prefix(model: nn.Module) -> str | None:
    """Find the backbone that is exported from a model.

    Args:
        model: A classifier, segmentor or pre-training, not wrapped.

    Returns:
        The prefix of the backbone's tensors in the model's state dict, which
        ends with a dot: the class's ``backbone_prefix``, else 'backbone.' if there is
        such a module. None if no backbone is exported.
    """
    default = 'backbone.' if 'backbone' in model._modules else None
    return getattr(model, 'backbone_prefix', default)


def last_of_quarters(depth: int) -> list[int]:
    """Numbers of four layers, evenly spaced up to the last.

    Example:
        >>> last_of_quarters(12)
        [2, 5, 8, 11]
    """
    return [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]


def patch_grid(module: nn.Module) -> Grid | None:
    """Rows and columns of patches that a module's position tensors are made for.

    Args:
        module: A vision transformer of mmpretrain, mmseg or timm, or one of their
            attentions with relative positions.

    Returns:
        None if the module does not specify it.
    """
    for owner in (getattr(module, 'patch_embed', None), module):
        for name in ('init_out_size', 'grid_size', 'patch_resolution', 'window_size'):
            grid = getattr(owner, name, None)
            if grid is not None:
                return tuple(grid)
    return None


def normalization(model: nn.Module) -> dict[str, list[float] | None]:
    """The mean and std by which a model normalizes its images, on the scale 0..255.

    Modules keep them in float32; here they are the numbers of the config again.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    values = {name: getattr(preprocessor, name, None) for name in ('mean', 'std')}
    return {
        name: None if value is None else [float(f'{v:.6g}') for v in value.flatten()]
        for name, value in values.items()
    }


def is_derived(name: str) -> bool:
    """Whether a buffer is computed from the module's size."""
    return name.rpartition('.')[2] in _DERIVED


def tensors_below(prefix: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors whose names begin with a prefix, without it.

    Those that follow from a network's size are left out.
    """
    return {
        name[len(prefix) :]: value
        for name, value in state_dict.items()
        if name.startswith(prefix) and not is_derived(name)
    }


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers that do not follow from the module's size."""
    state = module.state_dict().items()
    return tensors_below('', {k: v for k, v in state if isinstance(v, Tensor)})


def starts_anew(backbone: nn.Module, name: str) -> bool:
    """Whether a tensor exists in fine-tuning only.

    ``out_type='avg_featmap'`` of mmpretrain's vision transformers normalises the mean
    of the patches by ``ln2``, which is not there with the feature maps of a pre-training.
    (BEiT's and MAE's ``fc_norm`` is the same, and starts from scratch there, too.)

    Swin, ConvNeXt and others normalise each output, of which a classifier has the last
    one only: ``norm0`` to ``norm2`` are new where ``out_indices=(0, 1, 2, 3)``.

    Relative position embeddings of a ``WindowedViT`` are zero before they are trained.
    """
    if name.endswith(('.rel_pos_h', '.rel_pos_w')):
        return True
    if name.startswith('ln2.'):
        return getattr(backbone, 'out_type', None) == 'avg_featmap'
    outputs = getattr(backbone, 'out_indices', getattr(backbone, 'out_scales', ()))
    norm = re.match(r'norm(\d+)\.', name)
    return norm is not None and int(norm[1]) in sorted(outputs)[:-1]


def not_finite(node: Any) -> Iterator[str]:
    """Find the tensors that have NaN or infinite values in nested dicts and lists.

    Yields:
        Their dotted names.
    """
    for name, value in walk(node):
        if isinstance(value, Tensor) and not value.isfinite().all():
            yield name
