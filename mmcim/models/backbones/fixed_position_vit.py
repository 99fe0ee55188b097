# Copyright (c) mmcim contributors. All rights reserved.
"""A ViT with fixed sine-cosine position embeddings."""

from mmpretrain.models.selfsup import MoCoV3ViT
from mmpretrain.registry import MODELS


@MODELS.register_module()
class FixedPositionViT(MoCoV3ViT):
    """mmpretrain's ``MoCoV3ViT`` with position embeddings fixed from the start.

    They are sines and cosines, and other layers start with Xavier's initialisation, by
    :meth:`init_weights`. There alone mmpretrain freezes the embeddings: too late for
    ``DistributedDataParallel``, which by then waits for their gradient, and not at all
    with pre-trained weights, so that a comparison with random ones would not be fair.

    Args:
        **kwargs: See :class:`mmpretrain.models.selfsup.MoCoV3ViT`; ``patch_size`` is
            needed.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.pos_embed.requires_grad = False
