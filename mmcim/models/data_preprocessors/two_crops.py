# Copyright (c) mmcim contributors. All rights reserved.
"""Two differently cropped views of each picture."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .base import CIMDataPreprocessor, Views


@MODELS.register_module()
class TwoCropsDataPreprocessor(CIMDataPreprocessor):
    """Two crops of the same picture, each flipped and augmented by itself.

    The loader sends two crops of each picture, as mmpretrain's ``MultiView`` makes them.
    In evaluation it sends one, both views are it, and nothing is flipped or augmented.

    Args:
        view_augments (tuple[dict, dict]): Of the first and of the second view, see
            :class:`StrongAugment`. Defaults to those of BYOL and MoCo v3: all first
            views are blurred and none solarised; of the second 0.1 and 0.2.
        **kwargs: See :class:`CIMDataPreprocessor`; ``view_size`` must be None.

    Raises:
        ValueError: If there is a ``view_size``, or not two ``view_augments``.
    """

    def __init__(
        self,
        view_augments: tuple[dict, dict] = (
            dict(type='StrongAugment', blur_prob=1.0, solarize_prob=0.0),
            dict(type='StrongAugment', blur_prob=0.1, solarize_prob=0.2),
        ),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if self.view_size is not None:
            raise ValueError(
                f"both views have the crops' size; set view_size=None instead of "
                f'{self.view_size}'
            )
        if len(view_augments) != 2:
            raise ValueError(
                f'view_augments must be two, not {len(view_augments)}: {view_augments}'
            )
        self.view_augments = nn.ModuleList(
            MODELS.build(augment) for augment in view_augments
        )

    @torch.no_grad()
    def forward(self, data: dict, training: bool = False) -> dict:
        """Make the views.

        Args:
            data (dict): ``inputs`` are a list of two uint8 tensors, (B, C, H, W) with
                C = 1 or 3, or, in evaluation, one; ``data_samples`` are optional.
            training (bool): Whether to flip and augment. Defaults to False.

        Returns:
            dict: ``inputs``, a dict of ``images`` and ``views``, both (B, 3, H, W),
            float32, normalised; and ``data_samples`` as they came, on the device.

        Raises:
            TypeError: If the pictures are not such tensors.
        """
        data = self.cast_data(data)
        inputs = data['inputs']
        crops = inputs if isinstance(inputs, (list, tuple)) else (inputs, inputs)
        if len(crops) != 2 or (training and isinstance(inputs, Tensor)):
            raise TypeError(
                f'{type(self).__name__} needs two crops of each picture, not '
                f'{len(crops) if crops is inputs else "one"}; make them in the pipeline '
                "with dict(type='MultiView', num_views=2, transforms=[[...]])"
            )
        views = []
        for crop, augment in zip(crops, self.view_augments, strict=True):
            pictures = self.flipped(crop, training).float() / 255
            views.append(self.normalize(augment(pictures) if training else pictures))
        return {
            'inputs': Views(images=views[0], views=views[1]),
            'data_samples': data.get('data_samples'),
        }
