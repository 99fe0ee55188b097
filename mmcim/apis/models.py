# Copyright (c) mmcim contributors. All rights reserved.
"""Networks from files."""

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
        path: A plain backbone (``epoch_300_backbone.safetensors``) or the
            training checkpoint that it stands beside (``epoch_300.pth``), of a
            pre-training, classifier or segmentor.
        device: Where it goes.
        **overrides: Arguments of the backbone in place of those that it was trained
            with, such as ``img_size`` (positions are resized), ``out_type`` or
            ``out_indices``.

    Returns:
        The network in evaluation mode, without what only its pre-training needs, such as
        masks, and with no parameter fixed by it. Its attribute ``normalization`` is the
        mean and the std of R, G and B of its images, on the scale 0..255, or None if the
        file does not record them.

    Raises:
        ConfigError: If the file is missing, damaged or does not say what it is of, or if
            the weights do not fit.

    Examples:
        >>> backbone = load_backbone('epoch_300_backbone.safetensors')
        >>> features = backbone(torch.randn(2, 3, 224, 224))[-1]
        >>> larger = load_backbone('epoch_300.pth', img_size=384, out_type='cls_token')
    """
    file = BackboneFile.read(path)
    backbone = file.build(**overrides)
    load_into(backbone, file)
    return backbone.to(device)
