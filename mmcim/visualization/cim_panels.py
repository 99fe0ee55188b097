# Copyright (c) mmcim contributors. All rights reserved.
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcim.models.selfsup import CIM, ResPix, RevDet

_REPLACED = (0.85, 0.2, 0.15)
_ORIGINAL = (0.13, 0.35, 0.6)


@torch.no_grad()
def cim_panels(
    model: CIM,
    inputs: dict,
    detector: RevDet | None = None,
    data_samples: list | None = None,
) -> dict[str, Tensor]:
    """Corrupt a batch as in training, and show each step.

    Args:
        model (CIM): In eval mode, with a tokenizer and a generator.
        inputs (dict): ``images`` and ``views`` as from its data preprocessor.
        detector (RevDet, optional): Looks at the same corrupted pictures as the model's
            own enhancer. Defaults to the model's own enhancer, if it is one.
        data_samples (list, optional): With masks, if the data pipeline makes them.

    Returns:
        dict[str, Tensor]: Name -> pictures, float in [0, 1], (B, 3, H, W). Always
        ``original``, ``tokenizer``, ``mask`` and ``corrupted``; ``restored``
        from ResPix; ``replaced`` (the truth) and ``detected`` (the probability) from
        a RevDet, red for replaced tokens and blue for original ones.
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
    if isinstance(enhancer, ResPix):
        pred = enhancer.predict(batch.corrupted)
        restored = enhancer.head.restore(pred, images)
        panels.update(restored=preprocessor.denormalize(restored))
    elif detector is None:
        detector = enhancer
    if detector is not None:
        truth = detector.labels(batch.mask, batch.golden, batch.mixed)
        found = detector.predict(batch.corrupted).float().sigmoid()
        panels.update(
            replaced=_overlay(original, _enlarge(truth, size)),
            detected=_overlay(original, _enlarge(found, size)),
        )
    return panels


def _enlarge(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Tokens (B, h, w) to pixels (B, 1, H, W)."""
    return F.interpolate(grid[:, None].float(), size=size)


def _overlay(pictures: Tensor, share: Tensor) -> Tensor:
    """Colour pictures from blue (share 0) to red (share 1)."""
    ends = [pictures.new_tensor(c).view(3, 1, 1) for c in (_ORIGINAL, _REPLACED)]
    colour = ends[0] + share * (ends[1] - ends[0])
    return 0.35 * pictures.mean(dim=1, keepdim=True) + 0.65 * colour
