# Copyright (c) mmcim contributors. All rights reserved.
from .beit import FusedBEiTAttention, FusedBEiTPretrainViT, FusedBEiTViT

__all__ = ['FusedBEiTAttention', 'FusedBEiTPretrainViT', 'FusedBEiTViT']
