# Copyright (c) mmcim contributors. All rights reserved.
from .backbones import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .layers import *  # noqa: F403
from .necks import *  # noqa: F403
from .selfsup import *  # noqa: F403
from .tokenizers import *  # noqa: F403
