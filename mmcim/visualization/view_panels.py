# Copyright (c) mmcim contributors. All rights reserved.
from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcim.models.selfsup import (
    BEiTBaseline,
    ConMIM,
    CorrIM,
    MAEBaseline,
    MoCoV3Baseline,
    SimMIMBaseline,
)

from .cim_panels import _enlarge, _overlay


@singledispatch
def view_panels(model: nn.Module, inputs: dict, predict: bool) -> dict[str, Tensor]:
    """Show what a method sees of a batch, one panel after the other.

    Args:
        model (nn.Module): The method: ConMIM, CorrIM or one of the baselines.
        inputs (dict): What its data preprocessor gives.
        predict (bool): Whether to show what it finds as well, which only a trained model
            is worth. CorrIM alone finds something to show.

    Returns:
        dict[str, Tensor]: Name -> pictures, float in [0, 1], (B, 3, H, W), all of one
        size. Of ConMIM ``online``, ``masked``, and ``momentum``. Of CorrIM ``context``,
        and for each exemplar from 1 on ``exemplar``, ``region`` and ``found``, red
        inside and blue outside. Of BEiT, SimMIM and MAE ``picture`` and ``masked``,
        of BEiT also the ``tokens``, decoded. Of MoCo v3 the crops ``first`` and
        ``second``.

    Raises:
        TypeError: If the model is of another method.
    """
    raise TypeError(f'{type(model).__name__} is no method that can be shown')


@view_panels.register
@torch.no_grad()
def _(model: ConMIM, inputs: dict, predict: bool) -> dict[str, Tensor]:
    denormalize = model.data_preprocessor.denormalize
    online = denormalize(inputs['images'])
    momentum = denormalize(inputs['momentum_images'])
    return dict(
        online=online, masked=_masked(online, _draw(model, online)), momentum=momentum
    )


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


@view_panels.register(BEiTBaseline)
@view_panels.register(SimMIMBaseline)
@torch.no_grad()
def _(model: nn.Module, inputs: dict, predict: bool) -> dict[str, Tensor]:
    pictures = model.data_preprocessor.denormalize(inputs['images'])
    panels = dict(picture=pictures, masked=_masked(pictures, _draw(model, pictures)))
    if isinstance(model, BEiTBaseline):
        tokens = model.tokenizer.encode(inputs['tokenizer_images'])
        decoded = model.tokenizer.decode(tokens)
        panels['tokens'] = F.interpolate(decoded, pictures.shape[-2:])
    return panels


@view_panels.register
@torch.no_grad()
def _(model: MAEBaseline, inputs: dict, predict: bool) -> dict[str, Tensor]:
    pictures = model.data_preprocessor.denormalize(inputs['images'])
    _, mask, _ = model.backbone(inputs['images'], mask=True)
    mask = mask.unflatten(1, tuple(model.backbone.patch_resolution)).bool()
    return dict(picture=pictures, masked=_masked(pictures, mask))


@view_panels.register
@torch.no_grad()
def _(model: MoCoV3Baseline, inputs: dict, predict: bool) -> dict[str, Tensor]:
    denormalize = model.data_preprocessor.denormalize
    return dict(
        first=denormalize(inputs['images']), second=denormalize(inputs['second_crops'])
    )


def _draw(model: nn.Module, pictures: Tensor) -> Tensor:
    """Masks as in a training step, bool, (B, h, w)."""
    grid = tuple(model.backbone.patch_resolution)
    return model.masking(len(pictures), grid, pictures.device)


def _masked(pictures: Tensor, mask: Tensor) -> Tensor:
    """Grey where a patch is masked."""
    hidden = _enlarge(mask, pictures.shape[-2:]) > 0.5
    return torch.where(hidden, torch.full_like(pictures, 0.5), pictures)
