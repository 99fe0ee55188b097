# Copyright (c) mmcim contributors. All rights reserved.
from .baselines import (
    BEiTBaseline,
    MAEBaseline,
    MAEBaselineViT,
    MoCoV3Baseline,
    SimMIMBaseline,
)
from .cim import CIM, Corruption
from .conmim import ConMIM
from .corrim import CorrIM
from .discrete_vae import DiscreteVAETrainer
from .enhancers import Enhancer, ResPix, RevDet
from .generator import CIMGenerator

__all__ = [
    'BEiTBaseline',
    'CIM',
    'CIMGenerator',
    'ConMIM',
    'CorrIM',
    'Corruption',
    'DiscreteVAETrainer',
    'Enhancer',
    'MAEBaseline',
    'MAEBaselineViT',
    'MoCoV3Baseline',
    'ResPix',
    'RevDet',
    'SimMIMBaseline',
]
