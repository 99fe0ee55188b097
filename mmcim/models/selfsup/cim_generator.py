# Copyright (c) mmcim contributors. All rights reserved.
"""CIM's generator: a small BEiT and its head (arXiv 2202.03382, sec. 3.1)."""

import torch
from mmengine.model import BaseModule
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..layers.masking import MaskedPatches
from .base import patch_loss


@MODELS.register_module()
class CIMGenerator(BaseSelfSupervisor):
    """A small BEiT that proposes plausible tokens.

    It sees the original image with some patches masked and learns the golden token of
    each of them. Samples from its prediction replace those tokens in the corrupted
    image. It learns from its own cross-entropy alone: sampling carries no gradient.

    Args:
        backbone: A masked encoder such as :class:`FusedBEiTPretrainViT` with 4 to 6
            layers.
        head: :class:`MaskedTokenHead`.
        sampling: How tokens are drawn: ``'softmax'`` from the predicted distribution,
            ``'argmax'`` always the most likely one, ``'uniform'`` from the whole
            vocabulary, regardless of the prediction.
        temperature: Divides the logits before the softmax.
        **kwargs: See :class:`mmpretrain.models.BaseSelfSupervisor`.

    Raises:
        ValueError: If ``sampling`` is something else.
    """

    SAMPLING = ('softmax', 'argmax', 'uniform')

    def __init__(
        self,
        backbone: dict,
        head: dict,
        sampling: str = 'softmax',
        temperature: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(backbone, head=head, **kwargs)
        if sampling not in self.SAMPLING:
            raise ValueError(f'sampling={sampling!r} is none of {self.SAMPLING}')
        self.sampling = sampling
        self.temperature = temperature

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return tuple(self.backbone.patch_resolution)

    def predict(self, images: Tensor, mask: Tensor, patches: MaskedPatches) -> Tensor:
        """Predict the tokens of the masked patches.

        Args:
            images: Normalised, (B, 3, H, W).
            mask: bool, (B, h, w); True is masked.
            patches: The K masked patches of each image.

        Returns:
            Logits over the vocabulary, (B, K, V).
        """
        tokens = self.backbone(images, mask)[-1]  # (B, 1 + h * w, C)
        return self.head(tokens[:, self.backbone.num_extra_tokens :], patches)

    @torch.no_grad()
    def sample(self, logits: Tensor) -> Tensor:
        """Draw one token for each vector of logits, (..., V) -> int64, (...)."""
        if self.sampling == 'argmax':
            return logits.argmax(dim=-1)
        if self.sampling == 'uniform':
            return torch.randint(logits.size(-1), logits.shape[:-1], device=logits.device)
        probs = (logits.float() / self.temperature).softmax(dim=-1)
        # Like torch.multinomial without its check of the probabilities, which on a GPU
        # would end a diverged run in a device assertion.
        return (probs / torch.empty_like(probs).exponential_()).argmax(dim=-1)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Masked image modeling of visual tokens.

        Args:
            inputs: ``images``, normalised, (B, 3, H, W); ``mask``, bool, (B, h, w), True
                is masked; ``patches``, the K masked patches of each image; ``golden``,
                int64, (B, h, w), the tokens of the original image; and ``logits``,
                (B, K, V), if they have been predicted already.
            data_samples: Unused.

        Returns:
            ``loss_gen``, and to watch ``token_acc``, the accuracy on masked tokens.
        """
        patches, logits = inputs['patches'], inputs.get('logits')
        if logits is None:
            logits = self.predict(inputs['images'], inputs['mask'], patches)
        target = patches.targets(inputs['golden'])  # (B, K)
        loss, accuracy = patch_loss(logits, target)
        return dict(loss_gen=loss, token_acc=accuracy)


@MODELS.register_module()
class MaskedTokenHead(BaseModule):
    """A linear layer that predicts the visual token of each masked patch.

    The vocabulary is wide (8192 in the paper) and about half of the patches are masked,
    so only those reach the layer. BEiT's baseline uses it as well.

    Args:
        embed_dims: Width C of the tokens.
        vocab_size: Number V of visual tokens.
        init_cfg: Defaults to BEiT's normal of std 0.02, truncated at one sigma;
            the bounds of ``TruncNormal`` are absolute.
    """

    def __init__(
        self,
        embed_dims: int,
        vocab_size: int = 8192,
        init_cfg: dict | None = dict(  # noqa: B006
            type='TruncNormal', layer='Linear', std=0.02, a=-0.02, b=0.02, bias=0
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.vocab_size = vocab_size
        self.fc = nn.Linear(embed_dims, vocab_size)

    def forward(self, feats: Tensor, patches: MaskedPatches) -> Tensor:
        """Classify the masked patches.

        Args:
            feats: Patch tokens without the class token, (B, h * w, C).
            patches: K patches of each image.

        Returns:
            Logits, (B, K, V).
        """
        return self.fc(patches.gather(feats))
