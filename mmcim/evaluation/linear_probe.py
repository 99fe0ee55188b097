# Copyright (c) mmcim contributors. All rights reserved.
"""Linear probe: how well a linear classifier does on frozen features."""

import numpy as np
from mmpretrain.registry import LOOPS

from .frozen_features import FrozenFeatureLoop, topk_accuracy


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
        self.settings = dict(C=C, max_iter=max_iter)

    def evaluate(self, *feats_and_labels: np.ndarray) -> dict[str, float]:
        """Fit and classify; see :func:`linear_probe`."""
        return linear_probe(*feats_and_labels, **self.settings)  # type: ignore[arg-type]
