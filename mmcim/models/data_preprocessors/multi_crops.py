# Copyright (c) mmcim contributors. All rights reserved.
"""Several crops of each image, for methods that compare them."""

from collections.abc import Sequence

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .exemplars import ExemplarSampling, crop_regions
from .preprocessors import DevicePreprocessor, build_augment, random_flip


@MODELS.register_module()
class TwoCropsDataPreprocessor(DevicePreprocessor):
    """Flip and augment each of two crops of the same image on its own.

    The loader sends two crops of each image, as mmpretrain's ``MultiView`` makes them.
    In evaluation it sends one, which counts twice, and nothing is flipped or augmented.

    Args:
        crop_augments: Of the first and of the second crop, see :class:`StrongAugment`.
            Defaults to those of BYOL and MoCo v3: all first crops are blurred and none
            solarised; of the second 0.1 and 0.2.
        **kwargs: See :class:`DevicePreprocessor`.

    Raises:
        ValueError: If there are not two ``crop_augments``.
    """

    def __init__(
        self,
        crop_augments: tuple[dict, dict] = (
            dict(type='StrongAugment', blur_prob=1.0, solarize_prob=0.0),
            dict(type='StrongAugment', blur_prob=0.1, solarize_prob=0.2),
        ),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        first, second = map(build_augment, crop_augments)
        self.crop_augments = nn.ModuleList([first, second])

    def make_inputs(
        self, images: Tensor | Sequence[Tensor], training: bool
    ) -> dict[str, Tensor]:
        """Flip, augment and normalise each crop.

        Args:
            images: Two uint8 tensors, (B, C, H, W) with C = 1 or 3, or, in evaluation,
                one.
            training: Whether to flip and augment.

        Returns:
            ``images``, the first crops, and ``second_crops``, both float32, normalised,
            (B, 3, H, W).

        Raises:
            TypeError: If the images are something else.
        """
        single = isinstance(images, Tensor)
        crops = (images, images) if single else images
        if len(crops) != 2 or (training and single):
            raise TypeError(
                'two crops of each image are needed; make them in the pipeline with '
                "dict(type='MultiView', num_views=2, transforms=[[...]])"
            )
        inputs = {}
        names = ('images', 'second_crops')
        for name, crop, augment in zip(names, crops, self.crop_augments):
            crop = self.flip(crop, training).float() / 255
            inputs[name] = self.normalize(augment(crop) if training else crop)
        return inputs


@MODELS.register_module()
class MultiCropDataPreprocessor(TwoCropsDataPreprocessor):
    """Cut local crops out of two global crops (DINO, arXiv 2104.14294, sec. 3.1).

    The loader sends the two global crops, so that it does no more than for MoCo v3. Half
    of the local crops are cut on the device out of each, before it is augmented, and each
    is flipped and augmented on its own.

    Args:
        num_per_crop: Local crops out of each global one, half of all N.
        local_size: Side s of the local crops in pixels.
        local_scale: Their least and greatest fraction of a global crop's area; uniform.
            The default has the mean area of 0.05 to 0.4 of an image of which the global
            crops are 0.4 to 1.
        local_augment: Of the local crops, see :class:`StrongAugment`. Defaults to DINO's.
        **kwargs: See :class:`TwoCropsDataPreprocessor`.
    """

    def __init__(
        self,
        num_per_crop: int = 4,
        local_size: int = 96,
        local_scale: tuple[float, float] = (0.07, 0.57),
        local_augment: dict = dict(  # noqa: B006
            type='StrongAugment', blur_prob=0.5, solarize_prob=0.0
        ),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.local_crops = ExemplarSampling(
            num_per_crop, local_size, local_scale, (3 / 4, 4 / 3), degrees=(0, 0)
        )
        self.local_augment = build_augment(local_augment)

    def make_inputs(
        self, images: Tensor | Sequence[Tensor], training: bool
    ) -> dict[str, Tensor]:
        """Cut local crops; flip, augment and normalise all.

        Args:
            images: See :class:`TwoCropsDataPreprocessor`.
            training: Whether to flip and augment.

        Returns:
            ``images`` and ``second_crops``, (B, 3, H, W), and ``local_crops``,
            (B, N, 3, s, s), all float32, normalised.

        Raises:
            TypeError: If the images are something else.
        """
        inputs = super().make_inputs(images, training)
        crops = (images, images) if isinstance(images, Tensor) else images
        local = torch.cat([self._cut(crop) for crop in crops], dim=1)  # (B, N, 3, s, s)
        shape, local = local.shape[:2], local.flatten(0, 1)  # (B * N, 3, s, s)
        if training:
            local = self.local_augment(random_flip(local, self.flip_prob))
        return dict(inputs, local_crops=self.normalize(local).unflatten(0, shape))

    def _cut(self, images: Tensor) -> Tensor:
        """Cut local crops, uint8 -> [0, 1], (B, 3, H, W) -> (B, N / 2, 3, s, s)."""
        images = self.flip(images, training=False).float() / 255
        size = (images.shape[-2], images.shape[-1])
        regions = self.local_crops.draw(len(images), size, images.device)
        return crop_regions(images, regions, self.local_crops.size)
