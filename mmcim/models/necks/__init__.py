# Copyright (c) mmcim contributors. All rights reserved.
from .simple_feature_pyramid import SimpleFeaturePyramid
