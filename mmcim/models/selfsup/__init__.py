# Copyright (c) mmcim contributors. All rights reserved.
from .cim import CIM, Corruption
from .conmim import ConMIM, ConMIMDataPreprocessor
from .corrim import CorrIM
from .discrete_vae import DiscreteVAETrainer
from .enhancers import Enhancer, ResPix, RevDet
from .generator import CIMGenerator

__all__ = [
    'CIM',
    'CIMGenerator',
    'ConMIM',
    'ConMIMDataPreprocessor',
    'CorrIM',
    'Corruption',
    'DiscreteVAETrainer',
    'Enhancer',
    'ResPix',
    'RevDet',
]
