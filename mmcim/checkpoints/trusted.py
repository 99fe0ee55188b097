# Copyright (c) mmcim contributors. All rights reserved.
"""The one gate for configs that come out of a file of weights.

Whoever wrote the file wrote its config, and a registry builds whatever a config names: a
dotted name is imported and called. A file of weights is data, so what it names must be
known here already.
"""

import re
from typing import Any

from mmengine.registry import MODELS as ROOT
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS

# Where weights were once loaded from; the file has them now.
_LEFT_OUT = ('init_cfg', 'pretrained', 'checkpoint', 'checkpoint_path', '_scope_')
# Where the parts of a backbone are defined; others may read files or the network.
_PARTS = (
    'torch.nn.',
    'mmcv.cnn.',
    'mmengine.utils.dl_utils.',  # SyncBN
    'mmpretrain.models.utils.',
)
# Keys whose values networks look up in a registry.
_CLASS_KEYS = ('type', 'conv_type', 'norm_layer')
# In paths, addresses and names that Python imports. Names of architectures ('1.6gf',
# '768/32') are only looked up in tables, and timm's models may have a dot.
_PATH, _DOT = re.compile(r'[/\\:]'), re.compile(r'[/\\:.]')


def registered_class(name: Any) -> type | None:
    """Look up a class in mmpretrain's registry and its relatives, importing nothing.

    Args:
        name: ``'VisionTransformer'``, or with a scope ``'mmseg.ResNet'``.

    Returns:
        None if nothing is registered under this name.
    """
    scope, _, key = str(name).rpartition('.')
    registry = {'': MODELS, ROOT.scope: ROOT, **ROOT.children}.get(scope)
    while registry is not None:
        if key in registry.module_dict:
            return registry.module_dict[key]
        registry = registry.parent
    return None


def trusted_backbone_config(config: Any) -> dict:
    """Decide whether a config from a file of weights may be built.

    Args:
        config: What the file says builds its backbone.

    Returns:
        A copy without the places that weights were once loaded from.

    Raises:
        ValueError: If it is not of a registered backbone, names any class in it that is
            not registered, or a path or address.
    """
    name = config.get('type') if isinstance(config, dict) else None
    if not _is_backbone(registered_class(name)):
        raise ValueError(
            f'its config names {name!r}, which is no registered backbone; import what '
            'registers it, or use mmcim.checkpoints.load_into on a network of your own'
        )
    return _trusted(config, 'backbone')


def _is_backbone(cls: Any) -> bool:
    """Whether a class is a backbone of mmpretrain, or of a library without a base."""
    return isinstance(cls, type) and (
        issubclass(cls, BaseBackbone) or 'backbones' in cls.__module__.split('.')
    )


def _trusted(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {k: _trusted(v, k) for k, v in value.items() if k not in _LEFT_OUT}
    if isinstance(value, list | tuple):
        return type(value)(_trusted(item, key) for item in value)
    if key in _CLASS_KEYS and value is not None:
        cls = registered_class(value)
        module = f'{getattr(cls, "__module__", "")}.'
        known = _is_backbone(cls) or module.startswith(_PARTS)
    else:
        path = _PATH if key == 'model_name' else _DOT
        known = key == 'arch' or not (isinstance(value, str) and path.search(value))
    if not known:
        raise ValueError(
            f'its config has {key}={value!r}, but may only name registered parts of '
            'backbones, such as norms, and no files, addresses or code'
        )
    return value
