# Copyright (c) mmcim contributors. All rights reserved.
"""Weights in and out: read, rename, resize, load with a report, write."""

from .backbone_file import backbone_path, read_backbone, save_backbone
from .loader import load_backbone_weights
from .pretrained import Pretrained
from .reading import Weights, read_weights
from .report import LoadReport

__all__ = [
    'LoadReport',
    'Pretrained',
    'Weights',
    'backbone_path',
    'load_backbone_weights',
    'read_backbone',
    'read_weights',
    'save_backbone',
]
