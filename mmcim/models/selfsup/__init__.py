# Copyright (c) mmcim contributors. All rights reserved.
from .baselines import (
    BEiTBaseline,
    MAEBaseline,
    MAEBaselineViT,
    MoCoV3Baseline,
    SimMIMBaseline,
)
from .cim import CIM, Corruption
from .cim_enhancers import Enhancer, ResPix, ResPixHead, RevDet, RevDetHead
from .cim_generator import CIMGenerator, MaskedTokenHead
from .conmim import ConMIM, DenoisingContrastHead
from .corrim import CorrelationDecoder, CorrelationHead, CorrIM
from .dino import DINO, DINOHead, DINOHook, DINONeck
from .discrete_vae import DiscreteVAETrainer
from .siamese import (
    BarlowTwinsBaseline,
    BYOLBaseline,
    MoCoV2Baseline,
    SiameseSupervisor,
    SimCLRBaseline,
    SimSiamBaseline,
    SwAVBaseline,
)
