# Copyright (c) mmcim contributors. All rights reserved.
"""The methods to compare with: mmpretrain's implementations with fixes.

They use the data pipeline of CIM, draw masks on the device, keep the tokenizer frozen,
and update momentum encoders once per optimizer step.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank
from mmpretrain.models.selfsup import MAE, BEiT, MAEViT, MoCoV3, SimMIM
from mmpretrain.registry import MODELS
from torch import Tensor

from ..layers.masking import MaskedPatches
from ..layers.momentum import MomentumEncoder
from .base import MomentumSupervisor, SelfSupervisor, patch_loss


@MODELS.register_module()
class BEiTBaseline(SelfSupervisor, BEiT):
    """BEiT (arXiv 2106.08254): predict the visual tokens of masked patches.

    Any tokenizer of :mod:`mmcim.models.tokenizers` works. Unlike in mmpretrain's class
    its weights are in no optimizer and no checkpoint, ids are not converted to
    logits and back, and the masks are drawn on the device.

    Args:
        backbone: A masked encoder such as :class:`FusedBEiTPretrainViT`.
        head: :class:`MaskedTokenHead`.
        tokenizer: A frozen tokenizer.
        **kwargs: See :class:`SelfSupervisor`; ``masking`` defaults to BEiT's blocks.

    Raises:
        ValueError: If tokenizer, head, grid and tokenizer input do not fit together.
    """

    preprocessor = 'CIMDataPreprocessor'
    default_masking = dict(type='BlockMasking')

    def __init__(self, backbone: dict, head: dict, tokenizer: dict, **kwargs) -> None:
        super().__init__(backbone, head=head, **kwargs)
        self.tokenizer = MODELS.build(tokenizer)
        self.tokenizer.check_fit(model=self, key='model', inputs=self.data_preprocessor)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Tokenize, mask, predict the tokens.

        Args:
            inputs: ``images``, normalised, (B, 3, H, W), and ``tokenizer_images``,
                in [0, 1], (B, 3, h * stride, w * stride).
            data_samples: Unused.

        Returns:
            ``loss`` and ``token_acc``, in [0, 1].
        """
        _, golden, patches, logits = self.predict(inputs)
        target = patches.targets(golden)  # (B, K)
        loss, accuracy = patch_loss(logits, target)
        return dict(loss=loss, token_acc=accuracy)

    def predict(self, inputs: dict) -> tuple[Tensor, Tensor, MaskedPatches, Tensor]:
        """Tokenize, mask, predict; see :meth:`loss` for the inputs.

        Returns:
            The mask, bool, and the golden tokens, int64, (B, h, w); the K masked patches
            of each image, and their logits, (B, K, V).
        """
        images = inputs['images']
        mask = self.draw_mask(images)  # (B, h, w)
        patches = self.masking.patches(mask)
        golden = self.tokenizer.encode(inputs['tokenizer_images'])  # (B, h, w)
        logits = self.head(_patch_tokens(self.backbone, images, mask), patches)
        return mask, golden, patches, logits


@MODELS.register_module()
class SimMIMBaseline(SelfSupervisor, SimMIM):
    """SimMIM (arXiv 2111.09886) on a ViT: regress the pixels of masked patches.

    mmpretrain's class supports Swin only and draws masks on the CPU.

    Args:
        backbone: A masked encoder such as :class:`FusedBEiTPretrainViT`.
        neck: ``SimMIMLinearDecoder``.
        head: ``SimMIMHead``.
        **kwargs: See :class:`SelfSupervisor`; ``masking`` defaults to 0.6 of the squares
            of 2 x 2 patches.
    """

    default_masking = dict(type='RatioMasking', ratio=0.6, mask_patch_size=2)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Mask, encode, decode.

        Args:
            inputs: ``images``, normalised, (B, 3, H, W).
            data_samples: Unused.

        Returns:
            ``loss``.
        """
        mask, pred = self.predict(inputs['images'])
        return dict(loss=self.head.loss(pred, inputs['images'], mask))

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mask and restore normalised images, (B, 3, H, W).

        Returns:
            The mask, bool, (B, h, w), and normalised pixels, (B, 3, H, W).
        """
        mask = self.draw_mask(images)
        tokens = _patch_tokens(self.backbone, images, mask)
        features = tokens.transpose(1, 2).unflatten(2, mask.shape[1:])  # (B, C, h, w)
        return mask, self.neck(features)


@MODELS.register_module()
class MAEBaselineViT(MAEViT):
    """mmpretrain's ``MAEViT``, which sees whole images unless masking is requested.

    mmpretrain's masks by default, also in feature extraction.
    """

    def forward(self, x: Tensor, mask: bool | None = None) -> tuple[Tensor, ...]:
        """Encode.

        Args:
            x: Normalised images, (B, 3, H, W).
            mask: Whether to drop ``mask_ratio`` of the patches.

        Returns:
            What a ``VisionTransformer`` outputs; with a mask the visible
            tokens, (B, 1 + K, C), the mask (B, N), where 1 is dropped, and the
            indices (B, N) that restore the order.
        """
        return super().forward(x, mask or None)


@MODELS.register_module()
class MAEBaseline(SelfSupervisor, MAE):
    """MAE (arXiv 2111.06377): see a quarter of the patches, regress the rest.

    mmpretrain's class on the images of :class:`DevicePreprocessor`.
    """

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Encode the visible patches, decode the masked ones.

        Args:
            inputs: ``images``, normalised, (B, 3, H, W).
            data_samples: Unused.

        Returns:
            ``loss``.
        """
        images = inputs['images']
        latent, mask, restore = self.backbone(images, mask=True)
        return dict(loss=self.head.loss(self.neck(latent, restore), images, mask))


@MODELS.register_module()
class MoCoV3Baseline(MomentumSupervisor, MoCoV3):
    """MoCo v3 (arXiv 2104.02057): match two crops of an image among those of others.

    mmpretrain's class moves its momentum encoder in each forward pass, even where
    gradients accumulate; here :class:`MomentumUpdateHook` does so after each optimizer
    step. Predictor and contrastive loss are computed in float32.

    Args:
        backbone: A ViT that outputs its class token, such as :class:`FixedPositionViT`.
        neck: The projector.
        head: ``MoCoV3Head``, of which predictor, temperature and loss function count.
        **kwargs: See :class:`MomentumSupervisor`.
    """

    preprocessor = 'TwoCropsDataPreprocessor'

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Contrast each crop with the momentum encoder's other crops.

        Args:
            inputs: ``images`` and ``second_crops``, two crops of the same images,
                normalised, (B, 3, H, W).
            data_samples: Unused.

        Returns:
            ``loss``, the sum of both directions.
        """
        crops = inputs['images'], inputs['second_crops']
        with torch.no_grad():
            keys = [embed(self.momentum_encoder, crop) for crop in crops]
        pairs = zip([embed(self, crop) for crop in crops], reversed(keys))
        # Cosines over a small temperature need more digits than bfloat16 has.
        with torch.autocast(keys[0].device.type, enabled=False):
            losses = [self.contrast(own.float(), key.float()) for own, key in pairs]
        return dict(loss=torch.stack(losses).sum())

    def contrast(self, own: Tensor, keys: Tensor) -> Tensor:
        """The head's loss of (B, D), with labels that no host copies to a GPU."""
        predicted = F.normalize(self.head.predictor([own])[0], dim=1)
        keys = F.normalize(torch.cat(all_gather(keys)), dim=1)  # of all processes
        labels = torch.arange(len(own), device=own.device) + get_rank() * len(own)
        return self.head.loss_module(predicted @ keys.T / self.head.temperature, labels)


def _patch_tokens(backbone: torch.nn.Module, images: Tensor, mask: Tensor) -> Tensor:
    """Encode masked images; the tokens without the class token, (B, h * w, C)."""
    return backbone(images, mask)[-1][:, backbone.num_extra_tokens :]


def embed(modules: SelfSupervisor | MomentumEncoder, images: Tensor) -> Tensor:
    """Project the features of an owner's ``backbone`` with its ``neck``, (B, D)."""
    return modules.neck(modules.backbone(images))[0]
