# Copyright (c) mmcim contributors. All rights reserved.
from .backbone_export import BackboneExportHook
from .ema import EMAHook
from .momentum_update import MomentumUpdateHook
from .runtime_info import DeferredInfoHook
from .safe_checkpoint import SafeCheckpointHook
