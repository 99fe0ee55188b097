# Copyright (c) mmcim contributors. All rights reserved.
from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .runner import StrictRunner
from .watch import WatchHook
