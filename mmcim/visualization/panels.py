# Copyright (c) mmcim contributors. All rights reserved.
"""What each method sees, generates and predicts, step by step.

``mmcim show`` and the images of a training are drawn from here.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor

from ..models import selfsup
from ..models.selfsup.discrete_vae import psnr
from .figure import Colour

RED, BLUE = (0.85, 0.2, 0.15), (0.13, 0.35, 0.6)
# Normalised pixels are shown from -2 to 2 standard deviations.
_SHOWN_RANGE = 4.0
_SHOWN_EXEMPLARS = 3


class Panels(NamedTuple):
    """Images of a batch and how to read them.

    Attributes:
        images: Heading -> images, float in [0, 1], (B, 3, H, W), all of one size. Below
            the name there may be lines of numbers.
        legend: What is what -> its colour.
    """

    images: dict[str, Tensor]
    legend: dict[str, Colour] = {}


@singledispatch
def make_panels(model: BaseSelfSupervisor, inputs: dict, **options: Any) -> Panels:
    """Show what a method does to a batch in training, and what it predicts.

    Call it without gradients and with the model in eval mode. Masks and samples are drawn
    as in training.

    Args:
        model: A method of :mod:`mmcim.models.selfsup`.
        inputs: What its data preprocessor gives in training.
        **options: Of a :class:`CIM` ``detector``, a :class:`RevDet` that looks at the
            same corrupted images. By default the model's own enhancer, if it is one.

    Returns:
        Of CIM ``original``, ``tokenizer``, ``mask``, ``corrupted``; from ResPix
        ``target`` and ``predicted``, normalised as in the loss, and ``restored``, in
        pixels; from a RevDet ``replaced`` (the truth) and ``detected``.
        Of BEiT ``original``, ``mask``, ``tokenizer`` and ``predicted``, the decoded
        tokens. Of SimMIM and MAE ``original``, ``mask`` and ``restored``, or, where MAE
        normalises its targets, ``target`` and ``predicted``. Of ConMIM ``original``,
        ``masked``, ``query``, one masked patch, and ``momentum`` and ``similarity``, its
        cosine with each patch of the momentum encoder's image. Of CorrIM ``context``, and
        of the first three exemplars ``exemplar``, ``region`` and ``found``. Of Siamese
        methods the two crops, of DINO the local ones as well; of a tokenizer's training
        ``original`` and ``restored``.

        Predictions of pixels stand with their PSNR and that of a prediction of zeros.
    """
    return Panels(dict(original=model.data_preprocessor.denormalize(inputs['images'])))


@make_panels.register
def _cim(
    model: selfsup.CIM, inputs: dict, detector: selfsup.RevDet | None = None
) -> Panels:
    denormalize, enhancer = model.data_preprocessor.denormalize, model.enhancer
    batch = model.corrupt(inputs)
    original = denormalize(batch.images)
    panels, legend = dict(original=original), {}
    if batch.golden is not None:
        decoded = model.tokenizer.decode(batch.golden)
        decoded = model.to_enhancer(decoded, original.shape[-2:])
        panels['tokenizer'] = denormalize(decoded)
    panels['mask'] = grey_out(original, batch.mask)
    panels['corrupted'] = denormalize(batch.corrupted)
    if isinstance(enhancer, selfsup.ResPix):
        panels |= _respix(model, batch)
    elif detector is None:
        detector = enhancer
    if detector is not None:
        truth = detector.labels(batch.mask, batch.golden, batch.mixed)  # type: ignore[arg-type]
        found = detector.predict(batch.corrupted).float().sigmoid()
        panels['replaced'] = overlay(original, truth)
        panels['detected'] = overlay(original, found)
        legend = {'replaced': RED, 'original': BLUE}
    return Panels(panels, legend)


def _respix(model: selfsup.CIM, batch: selfsup.Corruption) -> dict[str, Tensor]:
    """Show the prediction as it is trained and as pixels."""
    head, denormalize = model.enhancer.head, model.data_preprocessor.denormalize
    target, pred = head.target(batch.images), model.enhancer.predict(batch.corrupted)

    def restored(prediction: Tensor) -> Tensor:
        return denormalize(head.restore(prediction, batch.corrupted))

    return {
        'target': _normalised(target),
        **_compared('predicted', _normalised, pred, _normalised(target)),
        **_compared('restored', restored, pred, denormalize(batch.images)),
    }


@make_panels.register
def _beit(model: selfsup.BEiTBaseline, inputs: dict) -> Panels:
    original = model.data_preprocessor.denormalize(inputs['images'])
    mask, golden, patches, logits = model.predict(inputs)
    predicted = patches.replace(golden, logits.argmax(dim=2))  # (B, h, w)
    panels = dict(original=original, mask=grey_out(original, mask))
    for name, ids in dict(tokenizer=golden, predicted=predicted).items():
        panels[name] = F.interpolate(model.tokenizer.decode(ids), original.shape[-2:])
    return Panels(panels)


@make_panels.register
def _simmim(model: selfsup.SimMIMBaseline, inputs: dict) -> Panels:
    mask, pred = model.predict(inputs['images'])
    return Panels(_filled(model, inputs['images'], mask, pred))


@make_panels.register
def _mae(model: selfsup.MAEBaseline, inputs: dict) -> Panels:
    images, head = inputs['images'], model.head
    original = model.data_preprocessor.denormalize(images)
    latent, mask, restore = model.backbone(images, mask=True)
    pred = head.unpatchify(model.neck(latent, restore).float())  # (B, 3, H, W)
    mask = mask.unflatten(1, tuple(model.backbone.patch_resolution)).bool()  # (B, h, w)
    if not head.norm_pix:
        return Panels(_filled(model, images, mask, pred))
    # The statistics of a hidden patch are known to nobody who has to predict it.
    target = _normalised(head.unpatchify(head.construct_target(images)))
    panels = dict(original=original, mask=grey_out(original, mask), target=target)
    return Panels({**panels, **_compared('predicted', _normalised, pred, target)})


@make_panels.register
def _conmim(model: selfsup.ConMIM, inputs: dict) -> Panels:
    images, seen = inputs['images'], inputs['momentum_images']
    original, momentum = map(model.data_preprocessor.denormalize, (images, seen))
    mask = model.draw_mask(images)
    keys = model._encode(model.momentum_encoder, seen, None)
    cosines = model.head(model._encode(model, images, mask), keys)  # (B, N, N)
    cosines = cosines * model.head.temperature
    count = mask.flatten(1).cumsum(dim=1)  # (B, N)
    query = (2 * count < count[:, -1:]).sum(dim=1)  # (B,), the middle masked patch
    is_query = F.one_hot(query, mask[0].numel()).view_as(mask)
    found = cosines[torch.arange(len(mask)), query].view(mask.shape)
    panels = dict(
        original=original,
        masked=grey_out(original, mask),
        query=overlay(original, is_query),
        momentum=momentum,
        similarity=overlay(momentum, (found + 1) / 2),
    )
    return Panels(panels, {'query, cosine of 1': RED, 'cosine of -1': BLUE})


@make_panels.register
def _corrim(model: selfsup.CorrIM, inputs: dict) -> Panels:
    denormalize = model.data_preprocessor.denormalize
    context = denormalize(inputs['context'])
    found = model.predict(inputs).softmax(dim=2)[:, :, 1]  # (B, E, H, W)
    panels = dict(context=context)
    for i in range(min(_SHOWN_EXEMPLARS, inputs['exemplars'].size(1))):
        exemplar = denormalize(inputs['exemplars'][:, i])
        panels[f'exemplar {i + 1}'] = F.interpolate(exemplar, context.shape[-2:])
        panels[f'region {i + 1}'] = overlay(context, inputs['regions'][:, i])
        panels[f'found {i + 1}'] = overlay(context, found[:, i])
    return Panels(panels, {'inside': RED, 'outside': BLUE})


@make_panels.register(selfsup.MoCoV3Baseline)
@make_panels.register(selfsup.SiameseSupervisor)
def _two_crops(model: BaseSelfSupervisor, inputs: dict) -> Panels:
    keys = {'first crop': 'images', 'second crop': 'second_crops'}
    denormalize = model.data_preprocessor.denormalize
    return Panels({name: denormalize(inputs[key]) for name, key in keys.items()})


@make_panels.register
def _dino(model: selfsup.DINO, inputs: dict) -> Panels:
    crops = [inputs['images'], inputs['second_crops'], *inputs['local_crops'].unbind(1)]
    names = ['first crop', 'second crop']
    names += [f'local crop {i + 1}' for i in range(len(crops) - 2)]
    size, denormalize = crops[0].shape[-2:], model.data_preprocessor.denormalize
    images = [F.interpolate(denormalize(crop), size) for crop in crops]
    return Panels(dict(zip(names, images)))


@make_panels.register
def _tokenizer(model: selfsup.DiscreteVAETrainer, inputs: dict) -> Panels:
    original, network = inputs['tokenizer_images'], model.backbone
    ids = network(original).argmax(1)  # (B, h, w)
    restored = network.decode(network.embed(ids)).float().clamp(0, 1)
    heading = f'restored\n{psnr(restored, original).mean():.1f} dB'
    return Panels({'original': original, heading: restored})


def _filled(
    model: BaseSelfSupervisor, images: Tensor, mask: Tensor, pred: Tensor
) -> dict[str, Tensor]:
    """Put predicted pixels, normalised as the images, where these are masked."""
    denormalize = model.data_preprocessor.denormalize
    hidden, original = _enlarge(mask, images.shape[-2:]) > 0.5, denormalize(images)

    def fill(prediction: Tensor) -> Tensor:
        return denormalize(torch.where(hidden, prediction.float(), images))

    panels = dict(original=original, mask=grey_out(original, mask))
    return {**panels, **_compared('restored', fill, pred, original)}


def _compared(
    name: str, view: Callable[[Tensor], Tensor], pred: Tensor, truth: Tensor
) -> dict[str, Tensor]:
    """Show a prediction, with its PSNR and that of a prediction of zeros.

    Args:
        name: Of the panel.
        view: Makes an image of a prediction.
        pred: (B, 3, H, W).
        truth: What the image should be.
    """
    image = view(pred)
    ours, zeros = (psnr(im, truth).mean() for im in (image, view(torch.zeros_like(pred))))
    return {f'{name}\n{ours:.1f} dB\nzeros {zeros:.1f} dB': image}


def _normalised(pixels: Tensor) -> Tensor:
    """Show normalised pixels, zero as grey."""
    return (0.5 + pixels.float() / _SHOWN_RANGE).clamp(0, 1)


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
    blue, red = (images.new_tensor(c).view(3, 1, 1) for c in (BLUE, RED))
    colour = blue + fraction * (red - blue)
    return 0.35 * images.mean(dim=1, keepdim=True) + 0.65 * colour
