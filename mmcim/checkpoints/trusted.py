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

from ..utils.errors import ConfigError

# Where weights were once loaded from; the file has them now. Of others, by their ends.
_LEFT_OUT = ('init_cfg', 'pretrained', '_scope_')
_PLACES = ('checkpoint', 'path', 'file', 'pretrained')
# Where the parts of a backbone are defined; others may read files or the network.
_PARTS = (
    'torch.nn.',
    'mmcv.cnn.',
    'mmengine.utils.dl_utils.',  # SyncBN
    'mmpretrain.models.utils.',
)
# Keys whose values networks look up in a registry.
_CLASS_KEYS = ('type', 'conv_type', 'norm_layer')
# Of paths, addresses and names that Python imports; only timm's models have a dot.
_PATH, _DOT = re.compile(r'[/\\:]'), re.compile(r'[/\\:.]')


def registered_class(name: Any) -> type | None:
    """Look up a class in mmpretrain's registry and its relatives, importing nothing.

    Args:
        name (Any): ``'VisionTransformer'``, or with a scope ``'mmseg.ResNet'``.

    Returns:
        type | None: None if nothing is registered under this name.
    """
    if not isinstance(name, str):
        return None
    scope, _, key = name.rpartition('.')
    registry = {'': MODELS, ROOT.scope: ROOT}.get(scope) or ROOT.children.get(scope)
    while registry is not None:
        if key in registry.module_dict:
            return registry.module_dict[key]
        registry = registry.parent
    return None


def trusted_backbone_config(config: Any, source: str) -> dict:
    """Decide whether a config from a file of weights may be built.

    Args:
        config (Any): What the file says builds its backbone.
        source (str): The file, for the error.

    Returns:
        dict: A copy without the places that weights were once loaded from.

    Raises:
        ConfigError: If it is not of a registered backbone, names any class in it that is
            not registered, or a path or address.
    """
    name = config.get('type') if isinstance(config, dict) else None
    cls = registered_class(name)
    if cls is None or not _is_backbone(cls):
        raise ConfigError(
            f'{source}: its config names {name!r}, which is not a registered backbone; '
            'import the package that registers it, or load the weights into a network '
            'of your own by mmcim.checkpoints.load_into'
        )
    return _trusted(config, 'backbone', source)


def _is_backbone(cls: type) -> bool:
    """Whether a class is a backbone of mmpretrain, or of a library without a base."""
    is_class = isinstance(cls, type)
    return is_class and (
        issubclass(cls, BaseBackbone) or 'backbones' in cls.__module__.split('.')
    )


def _is_part(cls: type | None) -> bool:
    return cls is not None and (
        f'{cls.__module__}.'.startswith(_PARTS) or _is_backbone(cls)
    )


def _left_out(key: str, value: Any) -> bool:
    return key in _LEFT_OUT or (isinstance(value, str) and str(key).endswith(_PLACES))


def _trusted(value: Any, key: str, source: str) -> Any:
    if isinstance(value, dict):
        return {
            k: _trusted(v, k, source) for k, v in value.items() if not _left_out(k, v)
        }
    if isinstance(value, list | tuple):
        return type(value)(_trusted(item, key, source) for item in value)
    if key in _CLASS_KEYS and value is not None and not _is_part(registered_class(value)):
        raise ConfigError(
            f'{source}: its config has {key}={value!r}, which is not a registered part '
            'of backbones, such as a norm or an activation'
        )
    # Names of architectures ('1.6gf', '768/32') are only looked up in tables.
    free = key in ('arch', *_CLASS_KEYS)
    refused = None if free else _PATH if key == 'model_name' else _DOT
    if refused and isinstance(value, str) and refused.search(value):
        raise ConfigError(
            f'{source}: its config has {key}={value!r}; the config of a backbone in a '
            'file of weights may not name files, addresses or code'
        )
    return value
