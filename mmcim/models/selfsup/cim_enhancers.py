# Copyright (c) mmcim contributors. All rights reserved.
"""CIM's two enhancers and their objectives (arXiv 2202.03382, sec. 3.2).

ResPix restores the pixels, RevDet detects the replaced tokens.
"""

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmcim.evaluation import binary_auc
from mmcim.utils.errors import ConfigError


class Enhancer(BaseSelfSupervisor):
    """A model that learns from corrupted images.

    Its backbone is the result of the pre-training. Any backbone of mmpretrain, or of timm
    through ``TIMMBackbone(features_only=True)``, that outputs a feature map works.
    """

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor]:
        """Compute the backbone's feature maps.

        Args:
            inputs: Normalised images, (B, 3, H, W).

        Returns:
            Feature maps; the last, (B, C, h, w), is the deepest.

        Raises:
            ConfigError: If the backbone outputs something else than a feature map.
        """
        feats = self.backbone(inputs)
        if feats[-1].ndim != 4:
            raise ConfigError(
                f'{type(self.backbone).__name__} gives no feature map (B, C, h, w); set '
                "out_type='featmap' for a ViT, features_only=True for a timm model"
            )
        return feats


def _check_size(prediction: Tensor, target: Tensor, setting: str) -> None:
    found, wanted = tuple(prediction.shape[1:]), tuple(target.shape[1:])
    if found != wanted:
        raise ConfigError(f'the enhancer predicts {found}, not {wanted}: set {setting}')


@MODELS.register_module()
class ResPix(Enhancer):
    """Residual pixel prediction: restore every pixel of the original image.

    Args:
        backbone: The model to pre-train.
        neck: Decoder of the last feature map to (B, 3, H, W), such as mmpretrain's
            ``SimMIMLinearDecoder``.
        head: :class:`ResPixHead`. Defaults to its defaults.
        **kwargs: See :class:`mmpretrain.models.BaseSelfSupervisor`.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict = dict(type='ResPixHead'),  # noqa: B006
        **kwargs,
    ) -> None:
        super().__init__(backbone, neck, head, **kwargs)

    def predict(self, corrupted: Tensor) -> Tensor:
        """Restore, (B, 3, H, W) -> (B, 3, H, W), in the target's normalisation."""
        return self.neck(self.extract_feat(corrupted)[-1])  # (B, C, h, w) -> (B, 3, H, W)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Restore and compare.

        Args:
            inputs: ``corrupted`` and ``images``, both normalised, (B, 3, H, W).
            data_samples: Unused.

        Returns:
            ``loss_pix``.

        Raises:
            ConfigError: If the prediction is not of the images' size.
        """
        pred, images = self.predict(inputs['corrupted']), inputs['images']
        _check_size(pred, images, 'encoder_stride and channels of its neck')
        return dict(loss_pix=self.head.loss(pred, images))


@MODELS.register_module()
class ResPixHead(BaseModule):
    """The ResPix objective: restore all pixels of the original image.

    ``l1_weight * |d| + l2_weight * d^2``, averaged over *all* pixels and channels,
    with d the difference from the normalised original.

    Args:
        target_norm: Normalisation of the target: :class:`SlidingWindowNorm`,
            :class:`PatchNorm`, or None for the dataset-normalised pixels as they are.
            Defaults to a sliding window of 8.
        l1_weight: Weight of the absolute error.
        l2_weight: Weight of the squared error.
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
            pred: Restored images in the target's normalisation, (B, 3, H, W).
            images: Originals, normalised with the dataset's mean and std, of the same
                shape.

        Returns:
            Scalar.
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
            pred: Prediction in the target's normalisation, (B, 3, H, W).
            corrupted: The enhancer's input, normalised, of the same shape.

        Returns:
            Of the same shape, float32.
        """
        pred = pred.float()
        if self.target_norm is None:
            return pred
        return self.target_norm.invert(pred, corrupted)


@MODELS.register_module()
class RevDet(Enhancer):
    """Replaced visual token detection: which tokens are the generator's samples?

    Args:
        backbone: The model to pre-train.
        head: :class:`RevDetHead`.
        correct_samples_as: What a sample that equals the golden token counts as:
            ``'original'``, as in ELECTRA, or ``'replaced'`` like every masked position.
        **kwargs: See :class:`mmpretrain.models.BaseSelfSupervisor`.

    Raises:
        ValueError: If ``correct_samples_as`` is something else.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        correct_samples_as: str = 'original',
        **kwargs,
    ) -> None:
        super().__init__(backbone, head=head, **kwargs)
        if correct_samples_as not in ('original', 'replaced'):
            raise ValueError(f"{correct_samples_as=} must be 'original' or 'replaced'")
        self.correct_samples_as = correct_samples_as

    def labels(self, mask: Tensor, golden: Tensor, mixed: Tensor) -> Tensor:
        """Decide which tokens count as replaced.

        Args:
            mask: bool, (B, h, w); True is masked.
            golden: Tokens of the original image, int64, (B, h, w).
            mixed: Tokens of the corrupted image, int64, (B, h, w).

        Returns:
            bool, (B, h, w); True is replaced.
        """
        return mask if self.correct_samples_as == 'replaced' else mixed != golden

    def predict(self, corrupted: Tensor) -> Tensor:
        """Compute logits of replacement, (B, 3, H, W) -> (B, h, w)."""
        return self.head(self.extract_feat(corrupted)[-1])

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Detect and compare.

        Args:
            inputs: ``corrupted``, normalised, (B, 3, H, W); ``mask``, ``golden`` and
                ``mixed`` as for :meth:`labels`.
            data_samples: Unused.

        Returns:
            ``loss_det``; to watch: ``det_auc``, ``det_acc`` at threshold 0 and
            ``det_base_rate``, the fraction of tokens that count as replaced, all in
            [0, 1]; ``det_auc`` is NaN where all tokens of a batch are of one class.

        Raises:
            ConfigError: If there is not one logit per token.
        """
        replaced = self.labels(inputs['mask'], inputs['golden'], inputs['mixed'])
        logits = self.predict(inputs['corrupted'])
        _check_size(logits, replaced, 'upscale of its head')
        detected = logits.detach()
        return dict(
            loss_det=self.head.loss(logits, replaced),
            det_auc=binary_auc(detected.flatten(), replaced.flatten()),
            det_acc=((detected > 0) == replaced).float().mean(),
            det_base_rate=replaced.float().mean(),
        )


@MODELS.register_module()
class RevDetHead(BaseModule):
    """The RevDet objective: was this token replaced?

    One logit per visual token from a 1 x 1 convolution. Where the feature map is coarser
    than the grid of tokens (ResNet-50: 7 x 7 for 14 x 14), the convolution outputs
    ``upscale ** 2`` logits per cell, which a pixel shuffle spreads out.

    Args:
        in_channels: Channels C of the feature map.
        upscale: Tokens per cell and side.
        init_cfg: Defaults to a truncated normal of std 0.02.
    """

    def __init__(
        self,
        in_channels: int,
        upscale: int = 1,
        init_cfg: dict | None = dict(  # noqa: B006
            type='TruncNormal', layer='Conv2d', std=0.02, bias=0
        ),
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.decoder = nn.Sequential(
            nn.Conv2d(in_channels, upscale**2, kernel_size=1),
            nn.PixelShuffle(upscale),
        )

    def forward(self, feats: Tensor) -> Tensor:
        """Compute the logits of replacement.

        Args:
            feats: Feature map, (B, C, h / upscale, w / upscale).

        Returns:
            (B, h, w); positive means replaced.
        """
        return self.decoder(feats).squeeze(1)  # (B, 1, h, w) -> (B, h, w)

    def loss(self, logits: Tensor, replaced: Tensor) -> Tensor:
        """Binary cross-entropy over all tokens.

        Args:
            logits: (B, h, w).
            replaced: bool, (B, h, w); True is replaced.

        Returns:
            Scalar.
        """
        return F.binary_cross_entropy_with_logits(logits.float(), replaced.float())
