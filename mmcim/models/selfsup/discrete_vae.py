# Copyright (c) mmcim contributors. All rights reserved.
"""Training of a discrete VAE from images (Ramesh et al., arXiv:2102.12092, 2.1)."""

import math

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmpretrain.registry import MODELS
from torch import Tensor

from ..tokenizers.base import warn_if_collapsed
from .base import SelfSupervisor

# Of each batch; to measure the PSNR takes another pass of the decoder.
_PSNR_IMAGES = 16


@MODELS.register_module()
class DiscreteVAETrainer(SelfSupervisor):
    """Train the tokenizer's network: encode, sample, decode, loss.

    The choice of a code is relaxed to a Gumbel-softmax whose temperature falls while
    training. The loss is the reconstruction's, plus the Kullback-Leibler divergence
    of the posterior to the uniform distribution, which keeps many codes in use; its
    weight follows the same schedule: both go from their first value to the last in
    half a cosine over the first ``anneal`` of the run, then stay. The run's progress
    is read from mmengine's message hub, so it is right after a resume; outside a
    runner it is 0.

    Args:
        backbone: Config of a :class:`DiscreteVAENet`.
        temperature: First and last temperature of the relaxation, above 0.
        kl_weight: First and last weight of the divergence. A weight that falls
            spreads the codes early in training and then vanishes;
            one that rises, as in the paper, warms up. The default suits drawings;
            for photographs a third of it is better.
        anneal: Part of the run, in (0, 1], in which both change.
        usage_window: Iterations over which ``codes_used`` counts, and after which it is
            looked whether one code stands for almost all patches.
        **kwargs: See :class:`SelfSupervisor`.
    """

    preprocessor = 'CIMDataPreprocessor'
    backbone_prefix = None
    """No backbone is exported: the model is a tokenizer."""

    def __init__(
        self,
        backbone: dict,
        temperature: tuple[float, float] = (2.0, 0.25),
        kl_weight: tuple[float, float] = (3e-3, 3e-4),
        anneal: float = 0.5,
        usage_window: int = 100,
        **kwargs,
    ) -> None:
        super().__init__(backbone, **kwargs)
        self.temperature = temperature
        self.kl_weight = kl_weight
        self.anneal = anneal
        self.usage_window = usage_window
        # Last iteration at which a code was the most likely one of any position.
        last_used = torch.full((self.backbone.vocab_size,), -usage_window)
        self.register_buffer('last_used', last_used)
        # A test counts the codes of its own images.
        self.register_buffer('last_used_in_test', last_used.clone(), persistent=False)

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Encode, sample, decode, compare.

        Args:
            inputs: ``tokenizer_images``, (B, 3, H, W) in [0, 1]; other keys are not used.
            data_samples: Not used.

        Returns:
            ``loss_recon`` and ``loss_kl``, weighted. To watch: ``psnr``, in dB, of
            the images that the most likely codes give, as the tokenizer will;
            ``codes_used``, the number of codes that were the most likely ones of any
            position in the last ``usage_window`` iterations of this process;
            ``temperature``.
        """
        images = inputs['tokenizer_images']
        temperature = self._scheduled(self.temperature)

        # encode
        logits = self.backbone(images).float()
        # sample
        weights = gumbel_softmax(logits, temperature)
        # decode
        restored = self.backbone.decode(self.backbone.mix(weights)).float()
        # loss
        loss_kl = self._scheduled(self.kl_weight) * kl_to_uniform(logits)
        return {
            'loss_recon': F.mse_loss(restored, images),
            'loss_kl': loss_kl,
            **self._watch(images, logits.detach()),
            'temperature': logits.new_full((), temperature),
        }

    def extract_feat(self, inputs: dict) -> Tensor:  # type: ignore[override]
        """Logits (B, vocab_size, h, w) of ``inputs['tokenizer_images']``."""
        return self.backbone(inputs['tokenizer_images'])

    @torch.no_grad()
    def _watch(self, images: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """What the finished tokenizer would do; see :meth:`loss`."""
        ids = logits.argmax(1)
        codes = self.backbone.embed(ids[:_PSNR_IMAGES])
        restored = self.backbone.decode(codes).float()
        now = MessageHub.get_current_instance().get_info('iter', 0)
        last_used = self.last_used if self.training else self.last_used_in_test
        last_used[ids.flatten()] = now
        if not self.training or (now + 1) % self.usage_window == 0:
            warn_if_collapsed(ids)
        return {
            'psnr': psnr(restored.clamp(0, 1), images[:_PSNR_IMAGES]).mean(),
            'codes_used': (last_used > now - self.usage_window).sum().float(),
        }

    def _scheduled(self, ends: tuple[float, float]) -> float:
        """Value of a quantity at the present iteration."""
        hub = MessageHub.get_current_instance()
        progress = hub.get_info('iter', 0) / hub.get_info('max_iters', 1)
        first, last = ends
        phase = math.pi * min(progress / self.anneal, 1)
        return last + (first - last) * (1 + math.cos(phase)) / 2


def gumbel_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Differentiable sample of one of V codes (Jang et al., arXiv:1611.01144, eq. 2).

    Args:
        logits: (B, V, h, w) float.
        temperature: Above 0; the sample is one-hot in the limit 0.

    Returns:
        (B, V, h, w), the weights of the codes, of sum 1 over V.
    """
    gumbel = -torch.empty_like(logits).exponential_().log()
    scores = (logits + gumbel) / temperature
    # At a low temperature most weights would be denormal numbers, with which a CPU
    # computes slowly; below exp(-40) they count for nothing anyway.
    scores = scores - scores.detach().amax(1, keepdim=True)
    return scores.clamp(min=-40).softmax(1)


def kl_to_uniform(logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softmax(logits) to the uniform distribution.

    Args:
        logits: (B, V, h, w) float.

    Returns:
        Mean over positions and batch, in nats, in [0, log V].
    """
    log_q = logits.log_softmax(1)
    return (log_q.exp() * log_q).sum(1).mean() + math.log(logits.shape[1])


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image.

    Args:
        images: (B, 3, H, W) in [0, 1].
        originals: (B, 3, H, W) in [0, 1].

    Returns:
        (B,), in dB; at most 100, for images that are equal.
    """
    error = (images - originals).square().mean((1, 2, 3))
    return -10 * error.clamp(min=1e-10).log10()
