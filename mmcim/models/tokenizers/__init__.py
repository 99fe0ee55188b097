# Copyright (c) mmcim contributors. All rights reserved.
from .base import BaseTokenizer, tensors_sha256
from .dalle import DALLETokenizer
from .discrete_vae import DiscreteVAE, DiscreteVAENet
from .vqvae import VQVAETokenizer

__all__ = [
    'BaseTokenizer',
    'DALLETokenizer',
    'DiscreteVAE',
    'DiscreteVAENet',
    'VQVAETokenizer',
    'tensors_sha256',
]
