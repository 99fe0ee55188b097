# Copyright (c) mmcim contributors. All rights reserved.
"""What the other methods see and predict."""

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor

from mmcim.models.selfsup import CorrIM, MAEBaseline

from .cim_panels import grey_out, overlay


@torch.no_grad()
def view_panels(
    model: BaseSelfSupervisor, inputs: dict, predict: bool
) -> dict[str, Tensor]:
    """Show what a method sees of a batch, one panel after the other.

    Args:
        model: Any method but CIM.
        inputs: What its data preprocessor gives.
        predict: Whether to show what it finds as well, which only a trained model is
            worth. CorrIM alone finds something to show.

    Returns:
        Name -> images, float in [0, 1], (B, 3, H, W), all of one size. Of CorrIM
        ``context``, and for each exemplar from 1 on ``exemplar``, ``region`` and
        ``found``, red inside and blue outside. Of all others ``image``, and where it has
        such ``masked``, ``momentum`` (the image of the momentum encoder), ``second``
        (crop) and ``tokens`` (decoded).
    """
    if isinstance(model, CorrIM):
        return _corrim_panels(model, inputs, predict)
    denormalize = model.data_preprocessor.denormalize
    images = denormalize(inputs['images'])
    panels = dict(image=images)
    if isinstance(model, MAEBaseline) or getattr(model, 'masking', None):
        panels['masked'] = grey_out(images, _draw_mask(model, inputs['images']))
    for name, key in dict(momentum='momentum_images', second='second_crops').items():
        if key in inputs:
            panels[name] = denormalize(inputs[key])
    if 'tokenizer_images' in inputs:
        tokens = model.tokenizer.encode(inputs['tokenizer_images'])
        decoded = model.tokenizer.decode(tokens)
        panels['tokens'] = F.interpolate(decoded, images.shape[-2:])
    return panels


def _draw_mask(model: BaseSelfSupervisor, images: Tensor) -> Tensor:
    """As in a training step, (B, h, w), True or 1 where a patch is masked."""
    if isinstance(model, MAEBaseline):
        grid = tuple(model.backbone.patch_resolution)
        return model.backbone(images, mask=True)[1].unflatten(1, grid)
    return model.draw_mask(images)


def _corrim_panels(model: CorrIM, inputs: dict, predict: bool) -> dict[str, Tensor]:
    denormalize = model.data_preprocessor.denormalize
    context = denormalize(inputs['context'])
    size = context.shape[-2:]
    panels = dict(context=context)
    if predict:
        probabilities = model.predict(inputs).softmax(dim=2)[:, :, 1]
    for i in range(inputs['exemplars'].size(1)):
        exemplar = denormalize(inputs['exemplars'][:, i])
        panels[f'exemplar {i + 1}'] = F.interpolate(exemplar, size)
        panels[f'region {i + 1}'] = overlay(context, inputs['regions'][:, i])
        if predict:
            panels[f'found {i + 1}'] = overlay(context, probabilities[:, i])
    return panels
