# Copyright (c) mmcim contributors. All rights reserved.
from .correlation_decoder import CorrelationDecoder

__all__ = ['CorrelationDecoder']
