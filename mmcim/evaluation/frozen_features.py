# Copyright (c) mmcim contributors. All rights reserved.
"""Features of a frozen backbone, judged by nearest neighbours and by a linear probe."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list, collect_results
from mmengine.model import BaseModel
from mmpretrain.registry import LOOPS
from torch.utils.data import DataLoader

from ..engine.data_parallel import collect_device
from ..utils.precision import choose_precision
from ..utils.terminal import track
from .loss_loop import MetricsLoop

_TOPK = (1, 5)
# Similarities that are in memory at a time; 0.5 GB.
_CHUNK = 2**27


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
        fp16: Whether to compute in the precision that ``precision='auto'`` would choose
            for a training, and not in float32.

    Returns:
        In the main process the features (N, D), float32, and the labels (N,), int64.
        None in the others.
    """
    pairs: list[tuple] = []
    precision = choose_precision('auto' if fp16 else 'float32')
    size = len(dataloader.dataset)  # type: ignore[arg-type]
    for batch in track(dataloader, f'Features of {size} images'):
        data = model.data_preprocessor(batch, False)
        with precision.autocast():
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


def linear_probe(
    train_feats: np.ndarray,
    train_labels: np.ndarray,
    val_feats: np.ndarray,
    val_labels: np.ndarray,
    C: float = 1.0,
    max_iter: int = 1000,
) -> dict[str, float]:
    """Fit multinomial logistic regression on features and measure its accuracy.

    The features are standardised with the training features' mean and standard
    deviation, channel by channel. The fit (L-BFGS) has one optimum, so that the
    result depends on no seed and no learning rate.

    Args:
        train_feats: (N, D), float.
        train_labels: (N,), int, at least two classes.
        val_feats: (M, D), float.
        val_labels: (M,), int.
        C: Inverse strength of the L2 regularisation: the weight of the sum of the
            training losses against half the squared norm of the weights.
        max_iter: Most iterations of the solver; scikit-learn warns if they do not
            suffice.

    Returns:
        ``top1`` and ``top5``, the accuracies on the validation features, in percent.
    """
    # Importing scikit-learn takes seconds, for which other runs need not wait.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=C, max_iter=max_iter)
    )
    classifier.fit(train_feats, train_labels)
    # A class without training images has no column.
    seen = classifier.classes_
    scores = np.zeros((len(val_feats), max(seen.max(), val_labels.max()) + 1))
    scores[:, seen] = classifier.predict_proba(val_feats)
    return topk_accuracy(scores, val_labels)


class FrozenFeatureLoop(MetricsLoop):
    """Test loop that classifies the test images by features of labelled ones.

    The features of both sets are computed once, see :func:`collect_features`; then
    :attr:`classify` turns them into metrics. The head's own weights play no part, and
    neither does the ``test_evaluator``.

    All features are kept in the memory of the first process, which evaluates. The
    first 1.28 million vectors of width 768 (ImageNet-1k, ViT-B) take 4 GB, and up to
    three times that on the way.

    Args:
        *args: See :class:`mmengine.runner.TestLoop`.
        train_dataloader: The labelled images. Give it the test pipeline: random crops or
            flips would blur the features.
        **kwargs: See :class:`mmengine.runner.TestLoop`; with ``fp16`` the features are
            computed as :func:`collect_features` says.

    Attributes:
        prefix: Of the names of the metrics, as ``knn`` in ``knn/top1``.
        classify: Gives metrics, name -> value, of the features, (N, D), float32, and
            labels, (N,), int64, of the training set, and then of the test set.
    """

    prefix: str
    classify: Callable[..., dict[str, float]]

    def __init__(self, *args, train_dataloader: DataLoader | dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        seed = self.runner.seed
        self.train_dataloader = self.runner.build_dataloader(train_dataloader, seed)

    def compute(self, model: BaseModel) -> dict[str, float]:
        """Compute the features and evaluate them."""
        train = collect_features(model, self.train_dataloader, self.fp16)
        test = collect_features(model, self.dataloader, self.fp16)
        result = [self.classify(*train, *test) if train and test else {}]
        broadcast_object_list(result)
        return {f'{self.prefix}/{name}': value for name, value in result[0].items()}


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
        device = get_device()
        self.classify = partial(knn_accuracy, k=k, temperature=temperature, device=device)


@LOOPS.register_module()
class LinearProbeLoop(FrozenFeatureLoop):
    """Test loop that reports a classifier backbone's linear-probe accuracy.

    It replaces a training of the linear head: :func:`linear_probe` fits logistic
    regression on the features of the training images. One process fits, on the CPU:
    meant for up to about 100,000 training images.

    Args:
        *args: See :class:`FrozenFeatureLoop`.
        C: As in :func:`linear_probe`.
        max_iter: As in :func:`linear_probe`.
        **kwargs: See :class:`FrozenFeatureLoop`.

    Example:
        In a config; ``mmcim test CONFIG CHECKPOINT`` then prints ``linear/top1``
        and ``linear/top5`` in percent::

            test_cfg = dict(
                type='LinearProbeLoop',
                train_dataloader=dict(...))
    """

    prefix = 'linear'

    def __init__(self, *args, C: float = 1.0, max_iter: int = 1000, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.classify = partial(linear_probe, C=C, max_iter=max_iter)
