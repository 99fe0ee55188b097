# Copyright (c) mmcim contributors. All rights reserved.
"""Weighted nearest neighbours: which classes lie together in a feature space."""

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmpretrain.registry import LOOPS

from .frozen_features import FrozenFeatureLoop, topk_accuracy

# Similarities that are in memory at a time; 0.5 GB.
_CHUNK = 2**27


@torch.no_grad()
def knn_accuracy(
    train_feats: np.ndarray,
    train_labels: np.ndarray,
    val_feats: np.ndarray,
    val_labels: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
    device: str | torch.device = 'cpu',
) -> dict[str, float]:
    """Classify by a weighted vote of the nearest training features, as DINO does.

    The ``k`` training features with the highest cosine similarity s vote for their
    classes, each with weight ``exp(s / temperature)`` (Wu et al., Unsupervised Feature
    Learning via Non-Parametric Instance Discrimination, section 3.4). Nothing is
    standardised or fitted.

    Args:
        train_feats: (N, D), float.
        train_labels: (N,), int.
        val_feats: (M, D), float.
        val_labels: (M,), int.
        k: Neighbours that vote; all of them if there are fewer.
        temperature: The lower, the more the nearest count.
        device: Where to compute.

    Returns:
        ``top1`` and ``top5`` in percent. A class that nobody voted for is never right.

    Raises:
        ValueError: If ``k`` or ``temperature`` is not positive.
    """
    if k < 1 or temperature <= 0:
        raise ValueError(f'k and temperature must be positive, not {k} and {temperature}')
    train = F.normalize(torch.from_numpy(train_feats).to(device), dim=1)
    labels = torch.from_numpy(train_labels).to(device)
    num_classes = int(max(train_labels.max(), val_labels.max())) + 1
    votes = []
    for chunk in torch.from_numpy(val_feats).split(max(1, _CHUNK // len(train))):
        similarity = F.normalize(chunk.to(device), dim=1) @ train.T
        nearest, index = similarity.topk(min(k, len(train)), dim=1)
        # Divided by the weight of a perfect match, which changes no order.
        weights = ((nearest - 1) / temperature).exp()
        empty = weights.new_zeros(len(chunk), num_classes)
        votes.append(empty.scatter_add_(1, labels[index], weights).cpu())
    return topk_accuracy(torch.cat(votes).numpy(), val_labels)


@LOOPS.register_module()
class KNNLoop(FrozenFeatureLoop):
    """Test loop that reports the accuracy of nearest neighbours in feature space.

    It takes no fit at all, but it is a poor judge of masked image modelling, whose
    features hold the classes in directions that do not dominate the distance: lightly's
    MAE ViT-B has 11.2 % by neighbours, 46.0 by a linear probe and 81.3 fine-tuned.
    Compare pre-trainings by a probe or by fine-tuning.

    Args:
        *args: See :class:`FrozenFeatureLoop`.
        k: As in :func:`knn_accuracy`.
        temperature: As in :func:`knn_accuracy`.
        **kwargs: See :class:`FrozenFeatureLoop`.

    Example:
        In a config; ``mmcim test CONFIG CHECKPOINT`` then prints ``knn/top1`` and
        ``knn/top5`` in percent::

            test_cfg = dict(type='KNNLoop', train_dataloader=dict(...))
    """

    prefix = 'knn'

    def __init__(self, *args, k: int = 20, temperature: float = 0.07, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.settings = dict(k=k, temperature=temperature, device=get_device())

    def evaluate(self, *feats_and_labels: np.ndarray) -> dict[str, float]:
        """Let the neighbours vote; see :func:`knn_accuracy`."""
        return knn_accuracy(*feats_and_labels, **self.settings)  # type: ignore[arg-type]
