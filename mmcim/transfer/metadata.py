# Copyright (c) mmcim contributors. All rights reserved.
"""What a training knows about the backbone that it writes."""

import hashlib
import json
from collections.abc import Sequence

from mmengine.config import Config
from torch import nn

from ..models.tokenizers.base import BaseTokenizer
from .layout import patch_grid


def backbone_metadata(
    model: nn.Module, prefix: str, cfg: Config, text: str
) -> dict[str, str]:
    """Describe the backbone of a model that is being trained.

    Args:
        model (nn.Module): The model, not wrapped.
        prefix (str): Its backbone's prefix, see :func:`backbone_prefix`.
        cfg (Config): The runner's config.
        text (str): The same as text, as the checkpoint's ``meta['cfg']`` has it.

    Returns:
        dict[str, str]: ``method``, the model's class; ``config_sha256`` of the config's
        text; and as far as they are known ``tokenizer_sha256``; ``mean`` and ``std``,
        see :func:`normalization_metadata`; ``grid``, JSON of the rows and columns of
        patches; ``backbone``, JSON of the config that builds the network.
    """
    metadata = dict(
        method=type(model).__name__,
        config_sha256=hashlib.sha256(text.encode()).hexdigest(),
    )
    for module in model.modules():
        if isinstance(module, BaseTokenizer):
            metadata['tokenizer_sha256'] = module.identity['sha256']
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    if mean is not None and std is not None:
        metadata |= normalization_metadata(
            mean.flatten().tolist(),
            std.flatten().tolist(),
            # mmpretrain's and mmcim's preprocessors keep the one, mmengine's the other.
            getattr(preprocessor, 'to_rgb', False)
            or getattr(preprocessor, '_channel_conversion', False),
        )
    grid = patch_grid(model.get_submodule(prefix.rstrip('.')))
    if grid is not None:
        metadata['grid'] = json.dumps(grid)
    config = backbone_config(cfg, prefix)
    if config is not None:
        metadata['backbone'] = json.dumps(config)
    return metadata


def normalization_metadata(
    mean: Sequence[float], std: Sequence[float], to_rgb: bool
) -> dict[str, str]:
    """Describe the normalisation of a backbone that was trained on RGB pictures.

    Args:
        mean (Sequence[float]): Of each channel, on the scale 0..255.
        std (Sequence[float]): Of each channel, on the same scale.
        to_rgb (bool): Whether the pictures' channels were swapped. Pictures are loaded
            as BGR, so that a network without that sees BGR.

    Returns:
        dict[str, str]: ``mean`` and ``std`` of R, G and B as JSON lists. Empty for a
        network of BGR pictures, because RGB ones are given to it wrongly by all who
        read this. Where all channels have the same statistics, as for grey pictures,
        their order does not matter.
    """
    if not to_rgb and (len(set(mean)) > 1 or len(set(std)) > 1):
        return {}
    # Modules keep them in float32, which makes 123.675 another number.
    lists = dict(mean=mean, std=std)
    return {key: json.dumps([round(v, 4) for v in lists[key]]) for key in lists}


def backbone_config(cfg: Config, prefix: str) -> dict | None:
    """Find the config of the backbone; None if the model came as an object.

    A copy that the model makes of its own backbone, as a momentum encoder is, has no
    config there; that of ``model.backbone`` builds it.
    """
    model = cfg.to_dict().get('model')
    config = model
    for part in prefix.rstrip('.').split('.'):
        config = config.get(part) if isinstance(config, dict) else None
    if not isinstance(config, dict) and isinstance(model, dict):
        config = model.get('backbone')
    if not isinstance(config, dict):
        return None
    # The weights are in the file, not where the training once began.
    config.pop('init_cfg', None)
    scope = cfg.get('default_scope') or 'mmpretrain'
    name = config.get('type')
    if isinstance(name, str) and '.' not in name and scope != 'mmpretrain':
        config['type'] = f'{scope}.{name}'
    return config
