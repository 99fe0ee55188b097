# Copyright (c) mmcim contributors. All rights reserved.
"""Backbones from files."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmcim.checkpoints import BackboneFile, load_into


def load_backbone(
    path: str | Path, device: str | torch.device = 'cpu', **overrides: Any
) -> nn.Module:
    """Rebuild a trained backbone.

    Args:
        path: Exported backbone weights (``epoch_300_backbone.safetensors``) or the
            training checkpoint next to them (``epoch_300.pth``), of a pre-training,
            classifier or segmentor.
        device: Device of the backbone.
        **overrides: Arguments of the backbone in place of those that it was trained
            with, such as ``img_size`` (position embeddings are resized), ``out_type`` or
            ``out_indices``.

    Returns:
        The backbone in evaluation mode, without parts that only pre-training needs, such
        as mask tokens, and with all parameters trainable. Its attribute ``normalization``
        is the mean and the std of R, G and B of its images, on the scale 0..255, or None
        if the file does not record them.

    Raises:
        ConfigError: If the file is missing, damaged or has no record of its backbone, or
            if the weights do not fit.

    Example:
        >>> backbone = load_backbone('epoch_300_backbone.safetensors')
        >>> backbone(torch.rand(2, 3, 224, 224))[-1].shape
        torch.Size([2, 768, 14, 14])
        >>> backbone = load_backbone(
        ...     'epoch_300_backbone.safetensors', img_size=384, out_type='cls_token')
        >>> backbone(torch.rand(2, 3, 384, 384))[-1].shape
        torch.Size([2, 768])
    """
    file = BackboneFile.read(path)
    backbone = file.build(**overrides)
    load_into(backbone, file)
    return backbone.to(device)
