# Copyright (c) mmcim contributors. All rights reserved.
from .masked_token_head import MaskedTokenHead
from .respix_head import ResPixHead
from .revdet_head import RevDetHead

__all__ = ['MaskedTokenHead', 'ResPixHead', 'RevDetHead']
