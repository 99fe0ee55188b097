# Copyright (c) mmcim contributors. All rights reserved.
"""A few functions for notebooks: trained backbones and their features."""

from .features import extract_features
from .models import load_backbone
