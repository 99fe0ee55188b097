# Copyright (c) mmcim contributors. All rights reserved.
"""The network that a pre-training leaves: the same function without its masks."""

from mmpretrain.registry import MODELS

from ..utils.arguments import keyword_arguments

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
    before, after = keyword_arguments(old), keyword_arguments(new)
    given = {key: value for key, value in config.items() if key in after}
    if given.get('arch') in ('mocov3-s', 'mocov3-small'):
        given['arch'] = dict(_MOCO_SMALL)
    changed = {
        key: before[key].default
        for key in before
        if key in after.keys() - given.keys()
        and before[key].default != after[key].default
    }
    return dict(type=_CLASSES[name], **given, **changed)
