# Copyright (c) mmcim contributors. All rights reserved.
from .base import BaseTokenizer
from .dalle import DALLETokenizer
from .discrete_vae import DiscreteVAE, DiscreteVAENet
from .explained import explained_by_tokens
from .vqvae import VQVAETokenizer
