# Copyright (c) mmcim contributors. All rights reserved.
"""Two crops of each image, for contrastive learning such as MoCo v3."""

from collections.abc import Sequence

from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .base import DevicePreprocessor, build_augment


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
