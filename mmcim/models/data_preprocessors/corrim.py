# Copyright (c) mmcim contributors. All rights reserved.
"""From a batch of uint8 pictures to CorrIM's contexts, exemplars and label maps."""

import torch
from mmpretrain.registry import MODELS

from .base import CIMDataPreprocessor, Views
from .exemplars import crop_regions, region_maps


@MODELS.register_module()
class CorrIMDataPreprocessor(CIMDataPreprocessor):
    """Make contexts, exemplars and label maps on the device (arXiv 2303.12670, sec. 3.2).

    The context is the whole picture at ``view_size``, with no augmentation but its flip.
    In training each exemplar is augmented by itself and flipped by chance; its label map
    is not, for the same place is to be found.

    Args:
        exemplars (dict): Their law, :class:`ExemplarSampling`. Defaults to its defaults.
        augment (dict, optional): Of the exemplars' colours in training, on RGB pictures
            in [0, 1]; None for none. Defaults to :class:`StrongAugment` with a blur of
            half of them.
        exemplar_flip_prob (float): Probability of an exemplar's own horizontal flip in
            training. Defaults to 0.5.
        label_margin (float): See :func:`region_maps`. 0 labels each pixel by its centre.
            The released code resizes its label maps bicubically and compares them for
            equality, by which pixels within the filter's reach of a region's edge, one
            or two, count as outside. Defaults to 0.
        view_size (int | Sequence[int]): Size (h, w) of the contexts. Defaults to 160.
        **kwargs: See :class:`CIMDataPreprocessor`.
    """

    def __init__(
        self,
        exemplars: dict = dict(type='ExemplarSampling'),  # noqa: B006
        augment: dict | None = dict(type='StrongAugment', blur_prob=0.5),  # noqa: B006
        exemplar_flip_prob: float = 0.5,
        label_margin: float = 0.0,
        view_size: int | tuple[int, int] = 160,
        **kwargs,
    ) -> None:
        super().__init__(view_size=view_size, **kwargs)
        if not 0 <= exemplar_flip_prob <= 1:
            raise ValueError(
                f'exemplar_flip_prob must be in [0, 1], not {exemplar_flip_prob}'
            )
        if label_margin < 0:
            raise ValueError(f'label_margin must not be negative: {label_margin}')
        self.exemplars = MODELS.build(exemplars)
        self.augment = None if augment is None else MODELS.build(augment)
        self.exemplar_flip_prob = exemplar_flip_prob
        self.label_margin = label_margin

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make what CorrIM sees.

        Args:
            data (dict): ``inputs`` are uint8 pictures (B, C, H, W) with C = 1 or 3;
                ``data_samples`` are optional.
            training (bool): Whether to flip and to augment. Defaults to False.

        Returns:
            dict: ``inputs``, a dict of ``images`` (B, 3, H, W), ``context``
            (B, 3, h, w) and ``exemplars`` (B, E, 3, s, s), float32, normalised, and
            ``regions``, bool, (B, E, h, w), True where the exemplar lies; and
            ``data_samples`` as they came, on the device.

        Raises:
            TypeError: If the pictures are not such tensors.
        """
        data = self.cast_data(data)
        pictures = self.flipped(data['inputs'], training).float() / 255
        context = self._shrink(pictures)
        size = tuple(pictures.shape[-2:])
        regions = self.exemplars.draw(len(pictures), size, pictures.device)

        crops = crop_regions(pictures, regions, self.exemplars.size).flatten(0, 1)
        if training:
            if self.augment is not None:
                crops = self.augment(crops)
            flipped = torch.rand(len(crops), device=crops.device)
            flipped = (flipped < self.exemplar_flip_prob).view(-1, 1, 1, 1)
            crops = torch.where(flipped, crops.flip(-1), crops)
        inputs = Views(
            images=self.normalize(pictures),
            context=self.normalize(context),
            exemplars=self.normalize(crops).unflatten(0, regions.angle.shape),
            regions=region_maps(regions, size, context.shape[-2:], self.label_margin),
        )
        return {'inputs': inputs, 'data_samples': data.get('data_samples')}
