# Copyright (c) mmcim contributors. All rights reserved.
"""The two enhancers: restore the pixels, or detect the replaced tokens."""

from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import Tensor

from mmcim.evaluation import binary_auc


class Enhancer(BaseSelfSupervisor):
    """A network that looks at corrupted pictures (arXiv 2202.03382, sec. 3.2).

    Its backbone is what pre-training is for. Any backbone of mmpretrain, or of timm
    through ``TIMMBackbone(features_only=True)``, that gives a feature map will do.
    """

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor]:
        """Give the backbone's feature maps.

        Args:
            inputs (Tensor): Normalised pictures, (B, 3, H, W).

        Returns:
            tuple[Tensor]: Feature maps; the last, (B, C, h, w), is the deepest.

        Raises:
            ValueError: If the backbone gives something else than a feature map.
        """
        feats = self.backbone(inputs)
        shape = getattr(feats[-1], 'shape', None)
        if shape is None or len(shape) != 4:
            raise ValueError(
                f'{type(self.backbone).__name__} gave an output of shape {shape}, but '
                'an enhancer needs a feature map (B, C, h, w); set '
                "out_type='featmap' for a ViT, features_only=True for a timm model"
            )
        return feats


@MODELS.register_module()
class ResPix(Enhancer):
    """Residual pixel prediction: restore every pixel of the original picture.

    Args:
        backbone (dict): The network to pre-train.
        neck (dict): Decoder of the last feature map to (B, 3, H, W), such as
            mmpretrain's ``SimMIMLinearDecoder``.
        head (dict): :class:`ResPixHead`. Defaults to its defaults.
        data_preprocessor (dict, optional): See :class:`CIMDataPreprocessor`.
        init_cfg (dict, optional): Defaults to None.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict = dict(type='ResPixHead'),  # noqa: B006
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )

    def predict(self, corrupted: Tensor) -> Tensor:
        """Restore, (B, 3, H, W) -> (B, 3, H, W) in the target's normalisation."""
        return self.neck(self.extract_feat(corrupted)[-1])

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Restore and compare.

        Args:
            inputs (dict): ``corrupted`` and ``images``, both normalised,
                (B, 3, H, W).
            data_samples (list, optional): Unused.

        Returns:
            dict[str, Tensor]: ``loss_pix``.
        """
        pred, images = self.predict(inputs['corrupted']), inputs['images']
        if pred.shape != images.shape:
            raise ValueError(
                f'ResPix restores {tuple(pred.shape[-2:])} pixels of pictures of '
                f'{tuple(images.shape[-2:])}; set encoder_stride of its neck to the '
                "stride of the backbone's feature map"
            )
        return dict(loss_pix=self.head.loss(pred, images))


@MODELS.register_module()
class RevDet(Enhancer):
    """Replaced visual token detection: which tokens are the generator's samples?

    Args:
        backbone (dict): The network to pre-train.
        head (dict): :class:`RevDetHead`.
        lucky (str): What a sample that equals the golden token counts as:
            ``'original'``, as in ELECTRA, or ``'replaced'`` like every masked
            position. Defaults to 'original'.
        data_preprocessor (dict, optional): See :class:`CIMDataPreprocessor`.
        init_cfg (dict, optional): Defaults to None.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        lucky: str = 'original',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if lucky not in ('original', 'replaced'):
            raise ValueError(f"lucky={lucky!r} is neither 'original' nor 'replaced'")
        self.lucky = lucky

    def labels(self, mask: Tensor, golden: Tensor, mixed: Tensor) -> Tensor:
        """Tell which tokens count as replaced.

        Args:
            mask (Tensor): bool, (B, h, w); True is masked.
            golden (Tensor): Tokens of the original picture, int64, (B, h, w).
            mixed (Tensor): Tokens of the corrupted picture, int64, (B, h, w).

        Returns:
            Tensor: bool, (B, h, w); True is replaced.
        """
        return mask if self.lucky == 'replaced' else mixed != golden

    def predict(self, corrupted: Tensor) -> Tensor:
        """Give logits of replacement, (B, 3, H, W) -> (B, h, w)."""
        return self.head(self.extract_feat(corrupted)[-1])

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Detect and compare.

        Args:
            inputs (dict): ``corrupted``, normalised, (B, 3, H, W); ``mask``,
                ``golden`` and ``mixed`` as for :meth:`labels`.
            data_samples (list, optional): Unused.

        Returns:
            dict[str, Tensor]: ``loss_det``; to watch: ``det_auc``,
            ``det_acc`` at threshold 0 and ``det_base_rate``, the share of tokens that
            count as replaced, all in [0, 1]; ``det_auc`` is NaN where all tokens of
            a batch are of one class.
        """
        replaced = self.labels(inputs['mask'], inputs['golden'], inputs['mixed'])
        logits = self.predict(inputs['corrupted'])
        if logits.shape != replaced.shape:
            raise ValueError(
                f'RevDet gives {tuple(logits.shape[1:])} logits for '
                f'{tuple(replaced.shape[1:])} tokens; set upscale of its head to '
                "tokens per cell of the backbone's feature map"
            )
        detected = logits.detach()
        return dict(
            loss_det=self.head.loss(logits, replaced),
            det_auc=binary_auc(detected.flatten(), replaced.flatten()),
            det_acc=((detected > 0) == replaced).float().mean(),
            det_base_rate=replaced.float().mean(),
        )
