# Copyright (c) mmcim contributors. All rights reserved.
"""Numbers that tell a healthy pre-training from a sick one, on a few held-out images."""

import math
from typing import Any

import torch
from mmengine.dist import all_gather, all_reduce
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor

from ..apis.features import pool
from ..checkpoints.layout import backbone_prefix
from ..evaluation.loss_loop import mean_losses
from ..models.selfsup import CIM, BEiTBaseline
from .seeding import seed_generators


@torch.no_grad()
def diagnose(model: BaseSelfSupervisor, data: dict, seed: int = 0) -> dict[str, float]:
    """Compute the losses of a batch, and what shows a collapse.

    Args:
        model: In eval mode, not wrapped.
        data: From its data loader, a batch of each process, all of one size.
        seed: Of masks and samples, which all numbers share.

    Returns:
        What :func:`mean_losses` gives. Of a model that predicts tokens also
        ``token_base_acc``, the accuracy of always predicting the most frequent token;
        ``token_entropy``, of the predicted distribution, in nats; ``codes_predicted`` and
        ``codes_used``, how many tokens are the most likely one of a masked patch, and how
        many the images have there. Of a model that exports a backbone
        ``effective_rank``, see :func:`effective_rank`, of its pooled features.
    """
    seed_generators(seed)
    numbers = mean_losses(model, [data])
    inputs = model.data_preprocessor(data, training=False)['inputs']
    seed_generators(seed)
    if isinstance(model, BEiTBaseline):
        _, golden, patches, logits = model.predict(inputs)
        numbers |= _token_numbers(logits, patches.targets(golden))
    elif isinstance(model, CIM) and model.generator is not None:
        batch: Any = model.corrupt(inputs)
        target = batch.patches.targets(batch.golden)
        numbers |= _token_numbers(batch.logits, target)
    if backbone_prefix(model):
        features = pool(model.backbone, model.extract_feat(inputs)[-1])  # (B, D)
        numbers['effective_rank'] = effective_rank(torch.cat(all_gather(features)))
    return numbers


def _token_numbers(logits: Tensor, target: Tensor) -> dict[str, float]:
    """Compare predictions (B, K, V) with targets (B, K), of all processes."""
    counts = target >= 0
    logits, target = logits[counts], target[counts]  # (M, V) and (M,)
    log_p = logits.float().log_softmax(dim=1)
    entropy = -(log_p.exp() * log_p).sum(dim=1).mean()
    count = logits.size(1)
    used = torch.stack([i.bincount(minlength=count) for i in (target, logits.argmax(1))])
    all_reduce(used)
    all_reduce(entropy, op='mean')
    golden, predicted = used
    return dict(
        token_base_acc=(golden.max() / golden.sum()).item(),
        token_entropy=entropy.item(),
        codes_used=golden.count_nonzero().item(),
        codes_predicted=predicted.count_nonzero().item(),
    )


def effective_rank(features: Tensor) -> float:
    """Count the dimensions that features use (RankMe, arXiv 2210.02885, eq. 1).

    Args:
        features: (N, D).

    Returns:
        The exponential of the entropy of the singular values, in [1, min(N, D)]; 1 if
        all features are parallel, as in a collapse. NaN if they are not finite.
    """
    if not features.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(features.double())
    fractions = values / values.sum()
    return torch.special.entr(fractions).sum().exp().item()
