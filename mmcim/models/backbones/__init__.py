# Copyright (c) mmcim contributors. All rights reserved.
from .beit import FusedBEiTAttention, FusedBEiTPretrainViT, FusedBEiTViT
from .fixed_position_vit import FixedPositionViT

__all__ = [
    'FixedPositionViT',
    'FusedBEiTAttention',
    'FusedBEiTPretrainViT',
    'FusedBEiTViT',
]
