# Copyright (c) mmcim contributors. All rights reserved.
from .finite_loss import FiniteLossHook
from .momentum_update import MomentumUpdateHook
from .safe_checkpoint import SafeCheckpointHook

__all__ = ['FiniteLossHook', 'MomentumUpdateHook', 'SafeCheckpointHook']
