# Copyright (c) mmcim contributors. All rights reserved.
"""The libraries whose configs mmcim runs."""

from importlib import import_module
from importlib.util import find_spec

SCOPES = ('mmpretrain', 'mmseg', 'mmdet')
"""What ``default_scope`` may be."""

REGISTRIES = [import_module(f'{name}.registry') for name in SCOPES if find_spec(name)]
"""Modules with the registries of those that are installed: mmdetection may be absent."""
