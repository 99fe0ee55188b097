# Copyright (c) mmcim contributors. All rights reserved.
"""Corrupted Image Modeling (arXiv 2202.03382)."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from ..layers.masking import MaskedPatches
from .base import SelfSupervisor
from .cim_enhancers import RevDet


class Corruption(NamedTuple):
    """A batch of images and how it was corrupted.

    Attributes:
        images: Original, normalised, (B, 3, H, W).
        mask: bool, (B, h, w); True is masked.
        patches: The K masked patches of each image.
        golden: Tokens of the original, int64, (B, h, w).
        mixed: Golden tokens with samples at the masked positions, (B, h, w).
        logits: The generator's prediction at the masked positions, (B, K, V).
        corrupted: Decoded mixed tokens, normalised, (B, 3, H, W).

    Without a generator the tokens and logits are None.
    """

    images: Tensor
    mask: Tensor
    patches: MaskedPatches
    golden: Tensor | None
    mixed: Tensor | None
    logits: Tensor | None
    corrupted: Tensor


@MODELS.register_module()
class CIM(SelfSupervisor):
    """Corrupted Image Modeling.

    A jointly trained generator replaces about half of an image's visual tokens with
    plausible samples. A frozen tokenizer decodes the mixture into a corrupted image, free
    of mask tokens, and the enhancer learns from it. Generator and enhancer share one
    backward pass and no gradient.

    Args:
        enhancer: :class:`ResPix` or :class:`RevDet`; its backbone is exported.
        masking: The masking strategy, see :mod:`mmcim.models.layers.masking`. Defaults
            to 100 to 120 of 196 patches at random.
        tokenizer: A frozen tokenizer, see :mod:`mmcim.models.tokenizers`.
        generator: :class:`CIMGenerator`. With neither tokenizer nor generator the masked
            patches are blank instead (the paper's comparison of corrupted with masked
            input).
        grid: Rows and columns of patches; needed without a generator, otherwise taken
            from it.
        enhancer_weight: Weight of the enhancer's loss against the generator's; the two
            share no parameter, so that with gradients clipped per sub-model it has
            almost no effect.
        upsampling: Interpolation of the decoded image to the enhancer's resolution,
            ``'bilinear'`` or ``'bicubic'``.
        data_preprocessor: See :class:`CIMDataPreprocessor`.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ValueError: If an argument is out of its range, or tokenizer, generator and
            tokenizer input do not fit together.
    """

    backbone_prefix = 'enhancer.backbone.'
    """Prefix of the exported backbone's tensors."""

    def __init__(
        self,
        enhancer: dict,
        masking: dict = dict(type='UniformMasking'),  # noqa: B006
        tokenizer: dict | None = None,
        generator: dict | None = None,
        grid: tuple[int, int] | None = None,
        enhancer_weight: float = 1.0,
        upsampling: str = 'bicubic',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        # BaseSelfSupervisor's own constructor requires a backbone; that of CIM is the
        # enhancer's and must be registered once.
        preprocessor = {'type': 'CIMDataPreprocessor', **(data_preprocessor or {})}
        super(BaseSelfSupervisor, self).__init__(
            data_preprocessor=MODELS.build(preprocessor), init_cfg=init_cfg
        )
        if (tokenizer is None) != (generator is None):
            raise ValueError('tokenizer and generator go together: give both or neither')
        self.tokenizer: Any = None if tokenizer is None else MODELS.build(tokenizer)
        self.generator = None if generator is None else MODELS.build(generator)
        self.enhancer = MODELS.build(enhancer)
        self.enhancer_weight = enhancer_weight
        self.upsampling = upsampling
        self.grid = grid if self.generator is None else self.generator.grid
        self.masking = MODELS.build(masking)
        self._check_fit()

    @property
    def backbone(self) -> torch.nn.Module:
        """The exported model, the enhancer's backbone."""
        return self.enhancer.backbone

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Corrupt, enhance, compare.

        Args:
            inputs: ``images``, normalised, (B, 3, H, W), and ``tokenizer_images``, in
                [0, 1], (B, 3, h * stride, w * stride).
            data_samples: Unused.

        Returns:
            The losses of generator and enhancer; to watch: ``token_acc`` of the
            generator, ``replaced``, the fraction of masked tokens whose sample differs
            from the golden one, and the enhancer's own.
        """
        batch = self.corrupt(inputs)

        losses = {}
        if self.generator is not None:
            losses = self.generator.loss(batch._asdict())
            # Where nothing is masked the two are equal.
            losses['replaced'] = (batch.mixed != batch.golden).sum() / batch.mask.sum()  # type: ignore[attr-defined]

        for name, value in self.enhancer.loss(batch._asdict()).items():
            losses[name] = self.enhancer_weight * value if 'loss' in name else value
        return losses

    def corrupt(self, inputs: dict) -> Corruption:
        """Tokenize, generate, corrupt; see :meth:`loss` for the inputs.

        Only ``logits`` carries a gradient.
        """
        images = inputs['images']  # (B, 3, H, W)
        mask = self.draw_mask(images)  # (B, h, w)
        patches = self.masking.patches(mask)  # K of each image
        if self.generator is None:
            corrupted = self._blank(images, mask)
            return Corruption(images, mask, patches, None, None, None, corrupted)

        # tokenize
        golden = self.tokenizer.encode(inputs['tokenizer_images'])  # (B, h, w)
        # generate
        logits = self.generator.predict(images, mask, patches)  # (B, K, V)
        samples = self.generator.sample(logits)  # (B, K)
        # corrupt
        mixed = patches.replace(golden, samples)  # (B, h, w)
        decoded = self.tokenizer.decode(mixed)  # (B, 3, h * stride, w * stride)
        corrupted = self.to_enhancer(decoded, images.shape[-2:])  # (B, 3, H, W)
        return Corruption(images, mask, patches, golden, mixed, logits, corrupted)

    def draw_mask(self, images: Tensor) -> Tensor:
        """Draw the masks of a batch, bool, (B, h, w); True is masked."""
        return self.masking(len(images), self.grid, images.device)

    @torch.no_grad()
    def to_enhancer(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring images in [0, 1] to the enhancer's resolution and normalisation."""
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode=self.upsampling).clamp(0, 1)
        return self.data_preprocessor.normalize(images)

    @staticmethod
    def _blank(images: Tensor, mask: Tensor) -> Tensor:
        """Hide masked patches behind the mean colour, which is zero once normalised."""
        hidden = F.interpolate(mask[:, None].to(images.dtype), size=images.shape[-2:])
        return images * (1 - hidden)

    def _check_fit(self) -> None:
        """Compare what the parts declare; shapes are checked where they meet."""
        if self.generator is not None:
            parts = dict(model=self.generator, inputs=self.data_preprocessor)
            self.tokenizer.check_fit(key='model.generator', **parts)
        elif isinstance(self.enhancer, RevDet):
            raise ValueError('RevDet needs a tokenizer and a generator')
        elif self.grid is None:
            raise ValueError('without a generator, grid=(rows, columns) is needed')
