# Copyright (c) mmcim contributors. All rights reserved.
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcim.models.selfsup import CIM, ResPix, RevDet
from mmcim.models.selfsup.cim import Corruption
from mmcim.models.selfsup.discrete_vae import psnr

_REPLACED = (0.85, 0.2, 0.15)
_ORIGINAL = (0.13, 0.35, 0.6)
# Normalised pixels are shown from -2 to 2 standard deviations.
_SHOWN_RANGE = 4.0


@torch.no_grad()
def cim_panels(
    model: CIM,
    inputs: dict,
    detector: RevDet | None = None,
    data_samples: list | None = None,
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Corrupt a batch as in training, and show each step.

    Args:
        model (CIM): In eval mode, with a tokenizer and a generator.
        inputs (dict): ``images`` and ``tokenizer_images`` as from its data preprocessor.
        detector (RevDet, optional): Looks at the same corrupted images as the model's
            own enhancer. Defaults to the model's own enhancer, if it is one.
        data_samples (list, optional): With masks, if the data pipeline makes them.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: Name -> images, float in [0, 1],
        (B, 3, H, W), and name -> caption for :func:`save_grid`. Always ``original``,
        ``tokenizer``, ``mask`` and ``corrupted``; from ResPix ``target`` and
        ``predicted``, normalised as in the loss, and ``restored``, in pixels; from a
        RevDet ``replaced`` (the truth) and ``detected`` (the probability), red for
        replaced tokens and blue for original ones. The captions give the PSNR of ResPix
        beside that of a prediction of zeros.
    """
    preprocessor, enhancer = model.data_preprocessor, model.enhancer
    images = inputs['images']
    size = images.shape[-2:]
    batch = model.corrupt(inputs, data_samples)
    original = preprocessor.denormalize(images)
    reconstructed = model.to_enhancer(model.tokenizer.decode(batch.golden), size)
    hidden = _enlarge(batch.mask, size)
    panels = dict(
        original=original,
        tokenizer=preprocessor.denormalize(reconstructed),
        mask=torch.where(hidden > 0.5, torch.full_like(original, 0.5), original),
        corrupted=preprocessor.denormalize(batch.corrupted),
    )
    captions = {}
    if isinstance(enhancer, ResPix):
        predicted, captions = _respix_panels(model, batch)
        panels.update(predicted)
    elif detector is None:
        detector = enhancer
    if detector is not None:
        truth = detector.labels(batch.mask, batch.golden, batch.mixed)
        found = detector.predict(batch.corrupted).float().sigmoid()
        panels.update(
            replaced=_overlay(original, _enlarge(truth, size)),
            detected=_overlay(original, _enlarge(found, size)),
        )
    return panels, captions


def _respix_panels(
    model: CIM, batch: Corruption
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Show the prediction as it is trained and as pixels, against that of zeros."""
    head, denormalize = model.enhancer.head, model.data_preprocessor.denormalize
    target, pred = head.target(batch.images), model.enhancer.predict(batch.corrupted)

    def shown(normalised: Tensor) -> Tensor:
        return (0.5 + normalised.float() / _SHOWN_RANGE).clamp(0, 1)

    def restored(prediction: Tensor) -> Tensor:
        return denormalize(head.restore(prediction, batch.corrupted))

    panels, captions = {}, {}
    for name, view, truth in (
        ('predicted', shown, shown(target)),
        ('restored', restored, denormalize(batch.images)),
    ):
        ours, zeros = (
            psnr(view(p), truth).mean() for p in (pred, torch.zeros_like(pred))
        )
        panels[name] = view(pred)
        captions[name] = f'{ours:.1f} dB\nzeros {zeros:.1f} dB'
    return dict(target=shown(target), **panels), captions


def _enlarge(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (B, h, w) to pixels (B, 1, H, W)."""
    return F.interpolate(grid[:, None].float(), size=size)


def _overlay(pictures: Tensor, share: Tensor) -> Tensor:
    """Colour pictures from blue (share 0) to red (share 1)."""
    ends = [pictures.new_tensor(c).view(3, 1, 1) for c in (_ORIGINAL, _REPLACED)]
    colour = ends[0] + share * (ends[1] - ends[0])
    return 0.35 * pictures.mean(dim=1, keepdim=True) + 0.65 * colour
