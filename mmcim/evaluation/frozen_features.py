# Copyright (c) mmcim contributors. All rights reserved.
"""Features of a frozen backbone, and the test loop of what is judged by them alone."""

from abc import abstractmethod

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, collect_results
from mmengine.model import BaseModel
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader

from ..engine.data_parallel import collect_device
from ..utils.terminal import track
from .metrics_loop import MetricsLoop

_TOPK = (1, 5)


@torch.no_grad()
def collect_features(
    model: BaseModel, dataloader: DataLoader, fp16: bool = False
) -> tuple[np.ndarray, np.ndarray] | None:
    """Compute the features of a whole labelled dataset.

    They are what the head of an mmpretrain ``ImageClassifier`` would classify,
    ``extract_feat(..., stage='pre_logits')``. With several processes each computes
    its part; what the sampler padded is dropped.

    Args:
        model: A classifier in eval mode, not wrapped.
        dataloader: Images with labels.
        fp16: Whether to compute under autocast.

    Returns:
        In the main process the features (N, D), float32, and the labels (N,), int64.
        None in the others.
    """
    pairs: list[tuple] = []
    size = len(dataloader.dataset)  # type: ignore[arg-type]
    for batch in track(dataloader, f'Features of {size} images'):
        data = model.data_preprocessor(batch, False)
        with autocast(enabled=fp16):
            feats = model.extract_feat(data['inputs'], stage='pre_logits')
        labels = torch.cat([sample.gt_label for sample in data['data_samples']])
        pairs.extend(zip(feats.float().cpu().numpy(), labels.tolist(), strict=True))
    pairs = collect_results(pairs, size, collect_device())
    if pairs is None:
        return None
    vectors, classes = zip(*pairs, strict=True)
    return np.stack(vectors), np.array(classes)


def topk_accuracy(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Count how often the true class is among those with the highest scores.

    Args:
        scores: (N, C), float, not negative. A class of score zero is no guess: it is
            never right.
        labels: (N,), int.

    Returns:
        ``{'top1': percent, 'top5': percent}``. Of equal scores the first counts as the
        highest.
    """
    order = np.argsort(-scores, axis=1, kind='stable')[:, : max(_TOPK)]
    hit = (order == labels[:, None]) & (np.take_along_axis(scores, order, 1) > 0)
    return {f'top{k}': 100.0 * float(hit[:, :k].any(axis=1).mean()) for k in _TOPK}


class FrozenFeatureLoop(MetricsLoop):
    """Test loop that classifies the test images by features of labelled ones.

    The features of both sets are computed once, see :func:`collect_features`; then
    :meth:`evaluate` turns them into metrics. The head's own weights play no part, and
    neither does the ``test_evaluator``.

    All features are kept in the memory of the first process, which evaluates. The
    first 1.28 million vectors of width 768 (ImageNet-1k, ViT-B) take 4 GB, and up to
    three times that on the way.

    Args:
        *args: See :class:`mmengine.runner.TestLoop`.
        train_dataloader: The labelled images. Give it the test pipeline: random crops or
            flips would blur the features.
        **kwargs: See :class:`mmengine.runner.TestLoop`; with ``fp16`` the features are
            computed under autocast.

    Attributes:
        prefix: Of the names of the metrics, as ``knn`` in ``knn/top1``.
    """

    prefix: str

    def __init__(self, *args, train_dataloader: DataLoader | dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        seed = self.runner.seed
        self.train_dataloader = self.runner.build_dataloader(train_dataloader, seed)

    def compute(self, model: BaseModel) -> dict[str, float]:
        """Compute the features and evaluate them."""
        train = collect_features(model, self.train_dataloader, self.fp16)
        test = collect_features(model, self.dataloader, self.fp16)
        result = [self.evaluate(*train, *test) if train and test else {}]
        broadcast_object_list(result)
        return {f'{self.prefix}/{name}': value for name, value in result[0].items()}

    @abstractmethod
    def evaluate(self, *feats_and_labels: np.ndarray) -> dict[str, float]:
        """Judge the features; called in the main process.

        Args:
            *feats_and_labels: Of the training set the features, (N, D), float32, and
                labels, (N,), int64; then both of the test set, of M images.

        Returns:
            Name -> value.
        """
