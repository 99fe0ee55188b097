# Copyright (c) mmcim contributors. All rights reserved.
from .correlation_head import CorrelationHead
from .denoising_contrast_head import DenoisingContrastHead
from .masked_token_head import MaskedTokenHead
from .respix_head import ResPixHead
from .revdet_head import RevDetHead

__all__ = [
    'CorrelationHead',
    'DenoisingContrastHead',
    'MaskedTokenHead',
    'ResPixHead',
    'RevDetHead',
]
