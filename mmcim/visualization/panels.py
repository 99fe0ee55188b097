# Copyright (c) mmcim contributors. All rights reserved.
"""What the methods see, generate and predict, step by step."""

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor

from mmcim.models.selfsup import CIM, CorrIM, MAEBaseline, ResPix, RevDet
from mmcim.models.selfsup.cim import Corruption
from mmcim.models.selfsup.discrete_vae import psnr

_REPLACED = (0.85, 0.2, 0.15)
_ORIGINAL = (0.13, 0.35, 0.6)
# Normalised pixels are shown from -2 to 2 standard deviations.
_SHOWN_RANGE = 4.0


@torch.no_grad()
def cim_panels(
    model: CIM, inputs: dict, detector: RevDet | None = None
) -> dict[str, Tensor]:
    """Corrupt a batch as in training, and show each step.

    Args:
        model: In eval mode, with a tokenizer and a generator.
        inputs: ``images`` and ``tokenizer_images`` as from its data preprocessor.
        detector: Looks at the same corrupted images as the model's own enhancer. By
            default the model's own enhancer, if it is one.

    Returns:
        Heading -> images, float in [0, 1], (B, 3, H, W). Always ``original``,
        ``tokenizer``, ``mask`` and ``corrupted``; from ResPix ``target`` and
        ``predicted``, normalised as in the loss, and ``restored``, in pixels; from a
        RevDet ``replaced`` (the truth) and ``detected`` (the probability), red for
        replaced tokens and blue for original ones. Below ``predicted`` and ``restored``
        stand two more lines: their PSNR, and that of a prediction of zeros.
    """
    denormalize, enhancer = model.data_preprocessor.denormalize, model.enhancer
    batch = model.corrupt(inputs)
    original = denormalize(inputs['images'])
    decoded = model.tokenizer.decode(batch.golden)
    panels = dict(
        original=original,
        tokenizer=denormalize(model.to_enhancer(decoded, original.shape[-2:])),
        mask=grey_out(original, batch.mask),
        corrupted=denormalize(batch.corrupted),
    )
    if isinstance(enhancer, ResPix):
        panels.update(_respix_panels(model, batch))
    elif detector is None:
        detector = enhancer
    if detector is not None:
        truth = detector.labels(batch.mask, batch.golden, batch.mixed)  # type: ignore[arg-type]
        found = detector.predict(batch.corrupted).float().sigmoid()
        panels['replaced'] = overlay(original, truth)
        panels['detected'] = overlay(original, found)
    return panels


def _respix_panels(model: CIM, batch: Corruption) -> dict[str, Tensor]:
    """Show the prediction as it is trained and as pixels, against that of zeros."""
    head, denormalize = model.enhancer.head, model.data_preprocessor.denormalize
    target, pred = head.target(batch.images), model.enhancer.predict(batch.corrupted)

    def shown(normalised: Tensor) -> Tensor:
        return (0.5 + normalised.float() / _SHOWN_RANGE).clamp(0, 1)

    def restored(prediction: Tensor) -> Tensor:
        return denormalize(head.restore(prediction, batch.corrupted))

    panels = dict(target=shown(target))
    truths = dict(predicted=shown(target), restored=denormalize(batch.images))
    for (name, truth), view in zip(truths.items(), (shown, restored), strict=True):
        image, zeros = view(pred), view(torch.zeros_like(pred))
        ours, base = psnr(image, truth).mean(), psnr(zeros, truth).mean()
        panels[f'{name}\n{ours:.1f} dB\nzeros {base:.1f} dB'] = image
    return panels


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


def _enlarge(grid: Tensor, size: torch.Size) -> Tensor:
    """Values of tokens or pixels, (B, h, w), as pixels (B, 1, H, W)."""
    return F.interpolate(grid[:, None].float(), size=size)


def grey_out(images: Tensor, mask: Tensor) -> Tensor:
    """Images (B, 3, H, W), grey where the mask (B, h, w) is True."""
    hidden = _enlarge(mask, images.shape[-2:]) > 0.5
    return torch.where(hidden, torch.full_like(images, 0.5), images)


def overlay(images: Tensor, fraction: Tensor) -> Tensor:
    """Colour images from blue to red, where the fraction (B, h, w) is 0 and 1."""
    fraction = _enlarge(fraction, images.shape[-2:])
    blue, red = (images.new_tensor(c).view(3, 1, 1) for c in (_ORIGINAL, _REPLACED))
    colour = blue + fraction * (red - blue)
    return 0.35 * images.mean(dim=1, keepdim=True) + 0.65 * colour
