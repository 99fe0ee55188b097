# Copyright (c) mmcim contributors. All rights reserved.
"""Metrics of the generator and of replacement detection.

They are computed on the device and return tensors, so that nothing waits for it.
"""

import torch
from torch import Tensor


@torch.no_grad()
def token_accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute how often the most probable token is the target.

    Args:
        logits: (..., V), a score for every token of the vocabulary. Of those
            that are equal, in bfloat16 a few, one counts.
        targets: (...), int64, the right ids; negative ones do not count.

    Returns:
        Float32 scalar in [0, 1]; NaN if no target counts.
    """
    return (logits.argmax(-1) == targets).sum() / (targets >= 0).sum()


@torch.no_grad()
def binary_auc(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the exact area under the ROC curve from ranks (Mann-Whitney U).

    It is the probability that a random positive has a higher logit than a random
    negative, where a tie counts one half.

    Args:
        logits: Any shape; only their order matters.
        labels: The same shape, bool or 0 and 1; 1 = positive.

    Returns:
        Float32 scalar in [0, 1]; NaN if there is only one class, for which
        the area is not defined.
    """
    logits = logits.flatten().float().contiguous()
    # A sum of ranks exceeds what float32 counts exactly.
    labels = labels.flatten().double()
    ordered = logits.sort().values
    # Rank of a value among equals: the mean of its first and its last place.
    first = torch.searchsorted(ordered, logits, right=False)
    last = torch.searchsorted(ordered, logits, right=True)
    ranks = (first + last + 1).double() / 2
    num_positive = labels.sum()
    num_negative = labels.numel() - num_positive
    wins = (ranks * labels).sum() - num_positive * (num_positive + 1) / 2
    return (wins / (num_positive * num_negative)).float()
