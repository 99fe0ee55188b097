# Copyright (c) mmcim contributors. All rights reserved.
"""The network that a pre-training leaves: the same function without its masks."""

import inspect

from mmpretrain.registry import MODELS

from ..utils.signatures import accepted_arguments

# Classes that mask pictures, or fix some of their parameters, and the classes with the
# same tensors and features that take whole pictures of any size and learn all.
_CLASSES = {
    'FusedBEiTPretrainViT': 'FusedBEiTViT',
    'BEiTPretrainViT': 'FusedBEiTViT',
    'FixedPositionViT': 'VisionTransformer',
    'MoCoV3ViT': 'VisionTransformer',
    'MAEBaselineViT': 'VisionTransformer',
    'MAEViT': 'VisionTransformer',
}
# A name for the size that MoCoV3ViT alone has.
_MOCO_SMALL = dict(embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=1536)


def config_after_pretraining(config: dict) -> dict:
    """Give the config of the network for use after its pre-training.

    Args:
        config (dict): What built the network in its training.

    Returns:
        dict: The config of a network that gives the same features of whole pictures and
        has the same tensors, but for a mask token. Unchanged if it is no network of a
        pre-training.
    """
    name = config['type'].removeprefix('mmpretrain.')
    if name not in _CLASSES:
        return config
    old, new = (MODELS.get(key) for key in (name, _CLASSES[name]))
    accepted = accepted_arguments(new)
    given = {key: value for key, value in config.items() if key in accepted}
    if given.get('arch') in ('mocov3-s', 'mocov3-small'):
        given['arch'] = dict(_MOCO_SMALL)
    before, after = _defaults(old), _defaults(new)
    changed = {
        key: value
        for key, value in before.items()
        if key in accepted - given.keys() and value != after[key]
    }
    return dict(type=_CLASSES[name], **given, **changed)


def _defaults(cls: type) -> dict[str, object]:
    """Defaults of a constructor, of its own arguments and those of its parents."""
    found: dict[str, object] = {}
    for part in reversed(cls.__mro__):
        if '__init__' in vars(part):
            found |= {
                key: parameter.default
                for key, parameter in inspect.signature(part.__init__).parameters.items()
                if parameter.default is not parameter.empty
            }
    return found
