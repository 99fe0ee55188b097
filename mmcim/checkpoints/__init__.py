# Copyright (c) mmcim contributors. All rights reserved.
"""Weights in and out: read, rename, resize, load with a report, write."""

from .adopt import adopt_pretrained
from .file import BackboneFile, load_checkpoint, read_weights
from .load import Pretrained, load_into
from .record import BackboneRecord, backbone_path, save_backbone
from .report import LoadReport
