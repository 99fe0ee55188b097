# Copyright (c) mmcim contributors. All rights reserved.
from .finite_loss import FiniteLossHook
from .run_state import RunStateHook
from .safe_checkpoint import SafeCheckpointHook

__all__ = ['FiniteLossHook', 'RunStateHook', 'SafeCheckpointHook']
