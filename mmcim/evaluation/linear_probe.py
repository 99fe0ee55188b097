# Copyright (c) mmcim contributors. All rights reserved.
"""Linear probe: how well a linear classifier does on frozen features."""

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, collect_results, is_main_process
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import TestLoop
from mmengine.runner.amp import autocast
from mmpretrain.registry import LOOPS
from torch.utils.data import DataLoader


def linear_probe(
    train_feats: np.ndarray,
    train_labels: np.ndarray,
    val_feats: np.ndarray,
    val_labels: np.ndarray,
    C: float = 1.0,
    max_iter: int = 1000,
) -> float:
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
        float: Top-1 accuracy on the validation features, in percent.

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
    return 100.0 * float(classifier.score(val_feats, val_labels))


@LOOPS.register_module()
class LinearProbeLoop(TestLoop):
    """Test loop that reports a classifier backbone's linear-probe accuracy.

    It replaces a training of the linear head: the frozen features of the training
    and of the test pictures are computed once, then :func:`linear_probe` fits a
    classifier on them. The features are what the model's head would classify
    (``extract_feat(..., stage='pre_logits')`` of mmpretrain's ``ImageClassifier``).
    The head's own weights play no part, and neither does the ``test_evaluator``.

    All features are kept in memory, and one process fits: meant for up to about
    100,000 training pictures. With several processes each computes its share.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): The pictures to test on, the runner's
            ``test_dataloader``.
        evaluator (Evaluator | dict | list): Required by the runner, not used.
        train_dataloader (DataLoader | dict): The labelled pictures to fit on. Give it
            the test pipeline: random crops or flips would blur the features.
        C (float): As in :func:`linear_probe`. Defaults to 1.
        max_iter (int): As in :func:`linear_probe`. Defaults to 1000.
        fp16 (bool): Whether to compute the features under autocast.
            Defaults to False.

    Example:
        In a config; ``tools/test.py CONFIG CHECKPOINT`` then prints
        ``linear/top1`` in percent::

            test_cfg = dict(
                type='LinearProbeLoop',
                train_dataloader=dict(...))
    """

    def __init__(
        self,
        runner,
        dataloader: DataLoader | dict,
        evaluator,
        train_dataloader: DataLoader | dict,
        C: float = 1.0,
        max_iter: int = 1000,
        fp16: bool = False,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self.train_dataloader = runner.build_dataloader(
            train_dataloader, seed=runner.seed
        )
        self.C = C
        self.max_iter = max_iter

    def run(self) -> dict:
        """Compute the features, fit, and report.

        Returns:
            dict: ``{'linear/top1': percent}``.
        """
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        train = self._features(self.train_dataloader, 'training')
        test = self._features(self.dataloader, 'test')
        top1 = None
        if is_main_process():
            top1 = linear_probe(*train, *test, C=self.C, max_iter=self.max_iter)
        result = [top1]
        broadcast_object_list(result)
        metrics = {'linear/top1': result[0]}
        self.runner.call_hook('after_test_epoch', metrics=metrics)
        self.runner.call_hook('after_test')
        return metrics

    @torch.no_grad()
    def _features(
        self, dataloader: DataLoader, name: str
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Compute features (N, D) and labels (N,) of a whole dataset.

        Returns:
            tuple | None: The arrays in the main process, None in the others.
        """
        size = len(dataloader.dataset)
        print_log(f'Linear probe: features of {size} {name} pictures', 'current')
        model = self.runner.model
        if is_model_wrapper(model):
            model = model.module
        pairs = []
        for batch in dataloader:
            data = model.data_preprocessor(batch, False)
            with autocast(enabled=self.fp16):
                feats = model.extract_feat(data['inputs'], stage='pre_logits')
            labels = torch.cat([sample.gt_label for sample in data['data_samples']])
            pairs.extend(zip(feats.float().cpu().numpy(), labels.tolist(), strict=True))
        # Merges the processes' shares, and drops what the sampler padded.
        pairs = collect_results(pairs, size)
        if pairs is None:
            return None
        feats, labels = zip(*pairs, strict=True)
        return np.stack(feats), np.array(labels)
