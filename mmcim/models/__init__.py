# Copyright (c) mmcim contributors. All rights reserved.
from .backbones import *  # noqa: F403
from .heads import *  # noqa: F403
from .necks import *  # noqa: F403
from .selfsup import *  # noqa: F403
from .tokenizers import *  # noqa: F403
from .utils import *  # noqa: F403
