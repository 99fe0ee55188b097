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
    """Fit multinomial logistic regression on features and count right answers.

    The features are standardised with the training features' mean and standard
    deviation, channel by channel. The fit (L-BFGS) has one optimum, so that the
    result depends on no seed and no learning rate.

    Args:
        train_feats (np.ndarray): (N, D), float.
        train_labels (np.ndarray): (N,), int, at least two classes.
        val_feats (np.ndarray): (M, D), float.
        val_labels (np.ndarray): (M,), int.
        C (float): Inverse strength of the L2 regularisation: the weight of the sum
            of the training losses against half the squared norm of the weights.
            Defaults to 1.
        max_iter (int): Most iterations of the solver; scikit-learn warns if they
            do not suffice. Defaults to 1000.

    Returns:
        dict[str, float]: ``top1`` and ``top5``, the accuracies on the validation
        features, in percent.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError(
            'The linear probe is fitted by scikit-learn: pip install scikit-learn'
        ) from error
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=C, max_iter=max_iter)
    )
    classifier.fit(train_feats, train_labels)
    # A class without training pictures has no column.
    seen = classifier.classes_
    scores = np.zeros((len(val_feats), max(seen.max(), val_labels.max()) + 1))
    scores[:, seen] = classifier.predict_proba(val_feats)
    return topk_accuracy(scores, val_labels)


@LOOPS.register_module()
class LinearProbeLoop(FrozenFeatureLoop):
    """Test loop that reports a classifier backbone's linear-probe accuracy.

    It replaces a training of the linear head: :func:`linear_probe` fits logistic
    regression on the features of the training pictures. One process fits, on the CPU:
    meant for up to about 100,000 training pictures.

    Args:
        *args: See :class:`FrozenFeatureLoop`.
        C (float): As in :func:`linear_probe`. Defaults to 1.
        max_iter (int): As in :func:`linear_probe`. Defaults to 1000.
        **kwargs: See :class:`FrozenFeatureLoop`.

    Example:
        In a config; ``tools/test.py CONFIG CHECKPOINT`` then prints ``linear/top1``
        and ``linear/top5`` in percent::

            test_cfg = dict(
                type='LinearProbeLoop',
                train_dataloader=dict(...))
    """

    def __init__(self, *args, C: float = 1.0, max_iter: int = 1000, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.C = C
        self.max_iter = max_iter

    def evaluate(self, *feats_and_labels: np.ndarray) -> dict[str, float]:
        """Fit and count; see :func:`linear_probe`."""
        found = linear_probe(*feats_and_labels, C=self.C, max_iter=self.max_iter)
        return {f'linear/{name}': value for name, value in found.items()}
