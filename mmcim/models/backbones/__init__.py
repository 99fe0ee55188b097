# Copyright (c) mmcim contributors. All rights reserved.
from .beit import FusedBEiTPretrainViT, FusedBEiTViT
from .dilated_resnet import DilatedResNet
from .fixed_position_vit import FixedPositionViT
from .windowed import WindowedBEiTViT, WindowedViT
