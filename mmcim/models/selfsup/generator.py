# Copyright (c) mmcim contributors. All rights reserved.
import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from mmcim.evaluation import token_accuracy


@MODELS.register_module()
class CIMGenerator(BaseSelfSupervisor):
    """The small BEiT that proposes plausible tokens (arXiv 2202.03382, sec. 3.1).

    It sees the original picture with some patches masked and learns the golden token of
    each of them. Samples from its prediction replace those tokens in the corrupted
    picture. It learns from its own cross-entropy alone: sampling carries no gradient.

    Args:
        backbone (dict): A masked encoder such as :class:`FusedBEiTPretrainViT` with
            4 to 6 layers.
        head (dict): :class:`MaskedTokenHead`.
        sampling (str): How tokens are drawn: ``'softmax'`` from the predicted
            distribution, ``'argmax'`` always the likeliest, ``'uniform'`` from the
            whole vocabulary whatever the prediction. Defaults to 'softmax'.
        temperature (float): Divides the logits before the softmax. Defaults to 1.
        data_preprocessor (dict, optional): See :class:`CIMDataPreprocessor`.
        init_cfg (dict, optional): Defaults to None.
    """

    SAMPLING = ('softmax', 'argmax', 'uniform')

    def __init__(
        self,
        backbone: dict,
        head: dict,
        sampling: str = 'softmax',
        temperature: float = 1.0,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if sampling not in self.SAMPLING:
            raise ValueError(f'sampling={sampling!r} is none of {self.SAMPLING}')
        if temperature <= 0:
            raise ValueError(f'temperature={temperature} must be positive')
        self.sampling = sampling
        self.temperature = temperature

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return tuple(self.backbone.patch_resolution)

    @property
    def vocab_size(self) -> int:
        """Number of tokens that the head tells apart."""
        return self.head.vocab_size

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor]:
        """Features of whole pictures, (B, 3, H, W) -> a tuple of feature tensors."""
        return self.backbone(inputs, mask=None)

    def predict(self, images: Tensor, mask: Tensor) -> Tensor:
        """Give logits over the vocabulary for the masked patches.

        Args:
            images (Tensor): Normalised pictures, (B, 3, H, W).
            mask (Tensor): bool, (B, h, w); True is masked.

        Returns:
            Tensor: (M, vocab_size), in the order of ``ids[mask]``.
        """
        tokens = self.backbone(images, mask)[-1]
        return self.head(tokens[:, self.backbone.num_extra_tokens :], mask)

    @torch.no_grad()
    def sample(self, logits: Tensor) -> Tensor:
        """Draw one token per row of logits (M, V).

        Returns:
            Tensor: int64, (M,).
        """
        if self.sampling == 'argmax':
            return logits.argmax(dim=1)
        if self.sampling == 'uniform':
            return torch.randint(self.vocab_size, logits.shape[:1], device=logits.device)
        probs = (logits.float() / self.temperature).softmax(dim=1)
        # As torch.multinomial does, but for its check of the numbers, which on a GPU
        # would end a diverged run in an assertion of the device.
        return (probs / torch.empty_like(probs).exponential_()).argmax(dim=1)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Masked image modelling of visual tokens.

        Args:
            inputs (dict): ``images``, normalised, (B, 3, H, W); ``mask``, bool,
                (B, h, w), True is masked; ``golden``, int64, (B, h, w), the tokens
                of the original picture.
            data_samples (list, optional): Unused.

        Returns:
            dict[str, Tensor]: ``loss_gen`` and ``token_acc``.
        """
        logits = self.predict(inputs['images'], inputs['mask'])
        return self.loss_from_logits(logits, inputs['golden'], inputs['mask'])

    def loss_from_logits(
        self, logits: Tensor, golden: Tensor, mask: Tensor
    ) -> dict[str, Tensor]:
        """The loss of logits that are already there; see :meth:`loss`."""
        target = golden[mask]
        return dict(
            loss_gen=self.head.loss(logits, target, mask),
            token_acc=token_accuracy(logits, target),
        )
