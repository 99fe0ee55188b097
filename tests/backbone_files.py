# Copyright (c) mmcim contributors. All rights reserved.
"""Exported backbones as a training writes them, for tests that start from one."""

from mmcim.checkpoints import BackboneRecord, save_backbone
from mmcim.checkpoints.layout import is_derived
from mmcim.checkpoints.record import config_after_pretraining, tensors_sha256


def write_backbone(path, tensors, config=None, **known):
    """Write ``*_backbone.safetensors``.

    Args:
        path: The file.
        tensors: State dict of the backbone.
        config: What built it in its training.
        **known: Other fields of the record.
    """
    tensors = {name: value for name, value in tensors.items() if not is_derived(name)}
    config = config_after_pretraining(config or dict(type='VisionTransformer'))
    record = BackboneRecord(config, tensors_sha256(tensors), **known)
    save_backbone(path, tensors, record)
