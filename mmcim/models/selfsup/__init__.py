# Copyright (c) mmcim contributors. All rights reserved.
from .cim import CIM, Corruption
from .discrete_vae import DiscreteVAETrainer
from .enhancers import Enhancer, ResPix, RevDet
from .generator import CIMGenerator

__all__ = [
    'CIM',
    'CIMGenerator',
    'Corruption',
    'DiscreteVAETrainer',
    'Enhancer',
    'ResPix',
    'RevDet',
]
