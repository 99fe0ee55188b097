# Copyright (c) mmcim contributors. All rights reserved.
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class ResPixHead(BaseModule):
    """The ResPix objective: restore all pixels of the original picture.

    ``l1_weight * |d| + l2_weight * d^2``, averaged over *all* pixels and channels,
    with d the difference from the normalised original (arXiv 2202.03382, sec. 3.2).

    Args:
        target_norm (dict, optional): Normalisation of the target:
            :class:`SlidingWindowNorm`, :class:`PatchNorm`, or None for the
            dataset-normalised pixels as they are. Defaults to a sliding window of 8.
        l1_weight (float): Weight of the absolute error. Defaults to 0.5.
        l2_weight (float): Weight of the squared error. Defaults to 0.5.
    """

    def __init__(
        self,
        target_norm: dict | None = dict(type='SlidingWindowNorm'),  # noqa: B006
        l1_weight: float = 0.5,
        l2_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.target_norm = None if target_norm is None else MODELS.build(target_norm)
        self.l1_weight = l1_weight
        self.l2_weight = l2_weight

    def loss(self, pred: Tensor, images: Tensor) -> Tensor:
        """Compare.

        Args:
            pred (Tensor): Restored picture in the target's normalisation,
                (B, 3, H, W).
            images (Tensor): Original picture, normalised with the dataset's mean and
                std, of the same shape.

        Returns:
            Tensor: Scalar.
        """
        diff = pred.float() - self.target(images)
        return self.l1_weight * diff.abs().mean() + self.l2_weight * diff.square().mean()

    def target(self, images: Tensor) -> Tensor:
        """Normalise originals as the prediction is, (B, 3, H, W) -> the same shape."""
        return images if self.target_norm is None else self.target_norm(images)

    def restore(self, pred: Tensor, corrupted: Tensor) -> Tensor:
        """Map a prediction back to dataset-normalised pixels.

        Window and patch statistics are those of the corrupted image, which is all that
        the enhancer has seen. With those of the original, a prediction of zeros would
        already be a blurred copy of it, and look almost like a good one.

        Args:
            pred (Tensor): Prediction in the target's normalisation, (B, 3, H, W).
            corrupted (Tensor): The enhancer's input, normalised, of the same shape.

        Returns:
            Tensor: Of the same shape, float32.
        """
        pred = pred.float()
        if self.target_norm is None:
            return pred
        return self.target_norm.invert(pred, corrupted)
