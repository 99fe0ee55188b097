# Copyright (c) mmcim contributors. All rights reserved.
"""Corrupted Image Modeling (arXiv 2202.03382)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.utils import to_2tuple
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from .cim_enhancers import RevDet


class Corruption(NamedTuple):
    """A batch of pictures and what has been done to them.

    Attributes:
        images (Tensor): Original, normalised, (B, 3, H, W).
        mask (Tensor): bool, (B, h, w); True is masked.
        golden (Tensor): Tokens of the original, int64, (B, h, w).
        mixed (Tensor): Golden tokens with samples at the masked places, (B, h, w).
        logits (Tensor): The generator's prediction at the M masked places, (M, V).
        corrupted (Tensor): Decoded mixed tokens, normalised, (B, 3, H, W).

    Without a generator the tokens and logits are None.
    """

    images: Tensor
    mask: Tensor
    golden: Tensor | None
    mixed: Tensor | None
    logits: Tensor | None
    corrupted: Tensor


@MODELS.register_module()
class CIM(BaseSelfSupervisor):
    """Corrupted Image Modeling.

    A generator, which is trained along, replaces about half of a picture's visual tokens
    by plausible samples. A frozen tokenizer turns the tokens back into a picture without
    any artificial mask, from which the enhancer learns. The two networks share one
    backward pass and no gradient.

    Args:
        enhancer (dict): :class:`ResPix` or :class:`RevDet`; its backbone is kept.
        masking (dict, optional): The law of the masks, see
            :mod:`mmcim.models.layers.masking`. None takes the masks that the data
            pipeline has put into the data samples. Defaults to 100 to 120 of 196
            patches at random.
        tokenizer (dict, optional): A frozen tokenizer, see
            :mod:`mmcim.models.tokenizers`.
        generator (dict, optional): :class:`CIMGenerator`. With neither tokenizer nor
            generator the masked patches are blank instead (the paper's comparison of
            corrupted with masked input).
        grid (tuple[int, int], optional): Rows and columns of patches; needed without a
            generator, otherwise taken from it. Defaults to None.
        enhancer_weight (float): Weight of the enhancer's loss against the generator's;
            the two networks share no parameter, so that with gradients clipped per
            network it changes next to nothing. Defaults to 1.
        upsampling (str): Interpolation of the decoded picture to the enhancer's
            resolution, ``'bilinear'`` or ``'bicubic'``. Defaults to 'bicubic'.
        data_preprocessor (dict, optional): See :class:`CIMDataPreprocessor`.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        ValueError: If tokenizer, generator, enhancer, masks and tokenizer input do not
            fit together.
    """

    backbone_prefix = 'enhancer.backbone.'
    """What the names of the tensors begin with that are kept after pre-training."""

    def __init__(
        self,
        enhancer: dict,
        masking: dict | None = dict(type='UniformMasking'),  # noqa: B006
        tokenizer: dict | None = None,
        generator: dict | None = None,
        grid: tuple[int, int] | None = None,
        enhancer_weight: float = 1.0,
        upsampling: str = 'bicubic',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        # BaseSelfSupervisor's own constructor would want a backbone; that of CIM is the
        # enhancer's and must be registered once.
        preprocessor = {'type': 'CIMDataPreprocessor', **(data_preprocessor or {})}
        super(BaseSelfSupervisor, self).__init__(
            data_preprocessor=MODELS.build(preprocessor), init_cfg=init_cfg
        )
        if (tokenizer is None) != (generator is None):
            raise ValueError('tokenizer and generator go together: give both or neither')
        if upsampling not in ('bilinear', 'bicubic'):
            raise ValueError(
                f"upsampling={upsampling!r} is neither 'bilinear' nor 'bicubic'"
            )
        self.masking = None if masking is None else MODELS.build(masking)
        self.tokenizer = None if tokenizer is None else MODELS.build(tokenizer)
        self.generator = None if generator is None else MODELS.build(generator)
        self.enhancer = MODELS.build(enhancer)
        self.enhancer_weight = enhancer_weight
        self.upsampling = upsampling
        self.grid = grid if self.generator is None else self.generator.grid
        self._check_fit()

    @property
    def backbone(self) -> torch.nn.Module:
        """The network that is kept after pre-training."""
        return self.enhancer.backbone

    def extract_feat(self, inputs: Tensor | dict) -> tuple[Tensor]:
        """Features of pictures that nobody corrupted.

        Args:
            inputs (Tensor | dict): Normalised pictures, (B, 3, H, W), or what the data
                preprocessor gives.

        Returns:
            tuple[Tensor]: The backbone's feature maps.
        """
        images = inputs['images'] if isinstance(inputs, dict) else inputs
        return self.enhancer.extract_feat(images)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Corrupt, enhance, compare.

        Args:
            inputs (dict): ``images``, normalised, (B, 3, H, W), and ``tokenizer_images``,
                in [0, 1], (B, 3, h * stride, w * stride).
            data_samples (list, optional): With masks, if ``masking`` is None.

        Returns:
            dict[str, Tensor]: The losses of generator and enhancer, and what a person
            wants to watch: ``token_acc`` of the generator, ``replaced``, the share
            of masked tokens whose sample differs from the golden one, and the
            enhancer's own.
        """
        batch = self.corrupt(inputs, data_samples)

        losses = {}
        if self.generator is not None:
            losses.update(
                self.generator.loss_from_logits(batch.logits, batch.golden, batch.mask)
            )
            # Where nothing is masked the two are equal.
            replaced = (batch.mixed != batch.golden).sum() / batch.mask.sum()
            losses.update(replaced=replaced)

        for name, value in self.enhancer.loss(batch._asdict()).items():
            losses[name] = self.enhancer_weight * value if 'loss' in name else value
        return losses

    def corrupt(self, inputs: dict, data_samples: list | None = None) -> Corruption:
        """Tokenize, generate, corrupt; see :meth:`loss` for the arguments.

        Only ``logits`` carries a gradient.
        """
        images = inputs['images']
        mask = self.draw_mask(images, data_samples)
        if self.generator is None:
            return self._blank(images, mask)

        # tokenize
        golden = self.tokenizer.encode(inputs['tokenizer_images'])
        # generate
        logits = self.generator.predict(images, mask)
        # corrupt
        mixed = golden.masked_scatter(mask, self.generator.sample(logits))
        corrupted = self.to_enhancer(self.tokenizer.decode(mixed), images.shape[-2:])
        return Corruption(images, mask, golden, mixed, logits, corrupted)

    def draw_mask(self, images: Tensor, data_samples: list | None) -> Tensor:
        """Draw the batch's masks, or take those of the data pipeline.

        Returns:
            Tensor: bool, (B, h, w); True is masked.
        """
        if self.masking is not None:
            return self.masking(len(images), self.grid, images.device)
        masks = torch.stack([torch.as_tensor(s.mask) for s in data_samples])
        if tuple(masks.shape[1:]) != self.grid:
            raise ValueError(
                f'the data pipeline makes masks of {tuple(masks.shape[1:])}, but the '
                f"generator's grid is {self.grid}; set input_size of the mask transform"
            )
        return masks.to(images.device, torch.bool)

    @torch.no_grad()
    def to_enhancer(self, pictures: Tensor, size: tuple[int, int]) -> Tensor:
        """Bring pictures in [0, 1] to the enhancer's resolution and normalisation."""
        if pictures.shape[-2:] != size:
            pictures = F.interpolate(
                pictures, size=size, mode=self.upsampling, align_corners=False
            ).clamp(0, 1)
        return self.data_preprocessor.normalize(pictures)

    def _blank(self, images: Tensor, mask: Tensor) -> Corruption:
        """Hide masked patches behind the mean colour, which is zero once normalised."""
        hidden = F.interpolate(mask[:, None].to(images.dtype), size=images.shape[-2:])
        return Corruption(images, mask, None, None, None, images * (1 - hidden))

    def _check_fit(self) -> None:
        if self.generator is None:
            if isinstance(self.enhancer, RevDet):
                raise ValueError(
                    'RevDet needs a tokenizer and a generator: blank patches are no '
                    'replaced tokens'
                )
            if self.grid is None:
                raise ValueError('without a generator, grid=(rows, columns) is needed')
        else:
            self.tokenizer.check_fit(
                vocab_size=self.generator.vocab_size,
                head='model.generator.head',
                grid=self.grid,
                tokenizer_size=self.data_preprocessor.tokenizer_size
                or self.generator.backbone.img_size,
            )
        self._rehearse()

    @torch.no_grad()
    def _rehearse(self) -> None:
        """Draw a mask and show the enhancer a picture: what does not fit raises.

        The networks and the random state are afterwards as they were. A backbone that
        takes pictures of any size does not tell theirs; without a generator the first
        step is then its enhancer's check.
        """
        size = getattr((self.generator or self.enhancer).backbone, 'img_size', None)
        mask = torch.zeros(1, *self.grid, dtype=torch.bool)
        modes = {module: module.training for module in self.enhancer.modules()}
        with torch.random.fork_rng(devices=[]):
            if self.masking is not None:
                mask = self.masking(1, self.grid, mask.device)
            if size is None:
                return
            image, tokens = torch.zeros(1, 3, *to_2tuple(size)), mask.long()
            batch = Corruption(image, mask, tokens, tokens, None, image)
            self.enhancer.eval()  # batch norms must not count the picture
            try:
                self.enhancer.loss(batch._asdict())
            except RuntimeError as error:
                raise ValueError(
                    f'the parts of model.enhancer do not fit together: {error}'
                ) from error
        for module, training in modes.items():
            module.training = training
