# Copyright (c) mmcim contributors. All rights reserved.
"""What a training knows about the backbone that it writes."""

import hashlib
import json

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
        JSON lists on the scale 0..255; ``grid``, JSON of the rows and columns of patches;
        ``backbone``, JSON of the config that builds the network.
    """
    metadata = dict(
        method=type(model).__name__,
        config_sha256=hashlib.sha256(text.encode()).hexdigest(),
    )
    for module in model.modules():
        if isinstance(module, BaseTokenizer):
            metadata['tokenizer_sha256'] = module.identity['sha256']
    for name in ('mean', 'std'):
        values = getattr(getattr(model, 'data_preprocessor', None), name, None)
        if values is not None:
            # They are kept in float32, which makes 123.675 another number.
            metadata[name] = json.dumps([round(v, 4) for v in values.flatten().tolist()])
    grid = patch_grid(model.get_submodule(prefix.rstrip('.')))
    if grid is not None:
        metadata['grid'] = json.dumps(grid)
    config = backbone_config(cfg, prefix)
    if config is not None:
        metadata['backbone'] = json.dumps(config)
    return metadata


def backbone_config(cfg: Config, prefix: str) -> dict | None:
    """Find the config of the backbone; None if the model came as an object."""
    config = cfg.to_dict().get('model')
    for part in prefix.rstrip('.').split('.'):
        config = config.get(part) if isinstance(config, dict) else None
    if not isinstance(config, dict):
        return None
    # The weights are in the file, not where the training once began.
    config.pop('init_cfg', None)
    scope = cfg.get('default_scope') or 'mmpretrain'
    if '.' not in config['type'] and scope != 'mmpretrain':
        config['type'] = f'{scope}.{config["type"]}'
    return config
