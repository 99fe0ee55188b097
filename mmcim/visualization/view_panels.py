# Copyright (c) mmcim contributors. All rights reserved.
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcim.models.selfsup import ConMIM, CorrIM

from .cim_panels import _enlarge, _overlay


@singledispatch
def view_panels(model: nn.Module, inputs: dict, predict: bool) -> dict[str, Tensor]:
    """Show what a method sees of a batch, one panel after the other.

    Args:
        model (ConMIM | CorrIM): The method.
        inputs (dict): What its data preprocessor gives.
        predict (bool): Whether to show what it finds as well, which only a trained model
            is worth. ConMIM predicts no picture.

    Returns:
        dict[str, Tensor]: Name -> pictures, float in [0, 1], (B, 3, H, W), all of one
        size. Of ConMIM ``online``, ``masked``, and ``momentum``. Of CorrIM ``context``,
        and for each exemplar from 1 on ``exemplar``, ``region`` and ``found``, red
        inside and blue outside.

    Raises:
        TypeError: If the model is of another method.
    """
    raise TypeError(f'{type(model).__name__} is neither ConMIM nor CorrIM')


@view_panels.register
@torch.no_grad()
def _(model: ConMIM, inputs: dict, predict: bool) -> dict[str, Tensor]:
    denormalize = model.data_preprocessor.denormalize
    online, momentum = denormalize(inputs['images']), denormalize(inputs['views'])
    grid = tuple(model.backbone.patch_resolution)
    mask = model.masking(len(online), grid, online.device)
    hidden = _enlarge(mask, online.shape[-2:]) > 0.5
    masked = torch.where(hidden, torch.full_like(online, 0.5), online)
    return dict(online=online, masked=masked, momentum=momentum)


@view_panels.register
@torch.no_grad()
def _(model: CorrIM, inputs: dict, predict: bool) -> dict[str, Tensor]:
    denormalize = model.data_preprocessor.denormalize
    context = denormalize(inputs['context'])
    size = context.shape[-2:]
    panels = dict(context=context)
    if predict:
        probabilities = model.predict(inputs).softmax(dim=2)[:, :, 1]
    for i in range(inputs['exemplars'].size(1)):
        exemplar = F.interpolate(denormalize(inputs['exemplars'][:, i]), size)
        region = inputs['regions'][:, i, None].float()
        panels[f'exemplar {i + 1}'] = exemplar
        panels[f'region {i + 1}'] = _overlay(context, region)
        if predict:
            panels[f'found {i + 1}'] = _overlay(context, probabilities[:, i, None])
    return panels
