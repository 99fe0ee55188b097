# Copyright (c) mmcim contributors. All rights reserved.
"""CorrIM's contexts, exemplars and label maps."""

from collections.abc import Sequence

from mmengine.utils import to_2tuple
from mmpretrain.registry import MODELS
from torch import Tensor

from .base import DevicePreprocessor, build_augment, random_flip, resize
from .exemplars import crop_regions, region_maps


@MODELS.register_module()
class CorrIMDataPreprocessor(DevicePreprocessor):
    """Add contexts, exemplars and label maps (arXiv 2303.12670, sec. 3.2).

    The context is the whole image at ``context_size``, with no augmentation but its flip.
    In training each exemplar is augmented on its own and flipped at random; its label map
    is not, for the same place is to be found.

    Args:
        exemplars: Their sampling, :class:`ExemplarSampling`. Defaults to its defaults.
        augment: Colour augmentation of the exemplars in training, on RGB images in
            [0, 1]; None for none. Defaults to :class:`StrongAugment` with a blur of half
            of them.
        exemplar_flip_prob: Probability of an exemplar's own horizontal flip in training.
        label_margin: See :func:`region_maps`. 0 labels each pixel by its centre. The
            released code resizes its label maps bicubically and compares them for
            equality, by which a region loses 0.4 to 0.5 px of the context at each edge;
            the default reproduces its maps best.
        context_size: Size (h, w) of the contexts.
        **kwargs: See :class:`DevicePreprocessor`.
    """

    def __init__(
        self,
        exemplars: dict = dict(type='ExemplarSampling'),  # noqa: B006
        augment: dict | None = dict(type='StrongAugment', blur_prob=0.5),  # noqa: B006
        exemplar_flip_prob: float = 0.5,
        label_margin: float = 0.4,
        context_size: int | Sequence[int] = 160,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.exemplars = MODELS.build(exemplars)
        self.augment = build_augment(augment)
        self.exemplar_flip_prob = exemplar_flip_prob
        self.label_margin = label_margin
        self.context_size = tuple(to_2tuple(context_size))

    def make_inputs(self, images: Tensor, training: bool) -> dict[str, Tensor]:
        """Flip, crop, augment and normalise.

        Args:
            images: uint8, (B, C, H, W) with C = 1 or 3.
            training: Whether to flip and augment.

        Returns:
            ``images`` (B, 3, H, W), ``context`` (B, 3, h, w) and ``exemplars``
            (B, E, 3, s, s), float32, normalised, and ``regions``, bool, (B, E, h, w),
            True where the exemplar lies.

        Raises:
            TypeError: If the images are something else.
        """
        images = self.flip(images, training).float() / 255
        context = resize(images, self.context_size)
        size = (images.shape[-2], images.shape[-1])
        regions = self.exemplars.draw(len(images), size, images.device)

        crops = crop_regions(images, regions, self.exemplars.size)  # (B, E, 3, s, s)
        crops = crops.flatten(0, 1)  # (B * E, 3, s, s)
        if training:
            crops = random_flip(self.augment(crops), self.exemplar_flip_prob)
        return dict(
            images=self.normalize(images),
            context=self.normalize(context),
            exemplars=self.normalize(crops).unflatten(0, regions.angle.shape),
            regions=region_maps(regions, size, self.context_size, self.label_margin),
        )
