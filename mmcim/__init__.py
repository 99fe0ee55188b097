# Copyright (c) mmcim contributors. All rights reserved.
"""Corrupted Image Modeling as a registry extension of mmpretrain.

Importing this package registers its models, data sets, hooks and loops; a config does so
by ``custom_imports = dict(imports=['mmcim'])``.
"""

from .dependencies import check_dependencies, complete_mmdet, leave_out_multimodal

check_dependencies()
complete_mmdet()
leave_out_multimodal()

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

from . import checkpoints, datasets, engine, evaluation, models  # noqa: E402
from .apis.pretrain import pretrain  # noqa: E402
from .version import __version__  # noqa: E402

MODULE2PACKAGE['mmcim'] = 'mmcim'  # for mmcim:: in configs and get_config
