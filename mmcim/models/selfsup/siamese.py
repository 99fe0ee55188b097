# Copyright (c) mmcim contributors. All rights reserved.
"""Siamese methods to compare with: match two crops of the same image.

Heads, necks and loss functions are mmpretrain's, and so are the formulas. Here the
momentum encoders move once per optimizer step, queues are buffers of the model, the
losses are computed in float32 over the images of all processes, and no host waits for
them. MoCo v3 is in :mod:`.baselines`.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from mmpretrain.registry import MODELS
from torch import Tensor

from .base import MomentumSupervisor, SelfSupervisor
from .baselines import MoCoV3Baseline, embed


class SiameseSupervisor(SelfSupervisor):
    """A method whose loss compares the embeddings of two crops.

    Args:
        backbone: A network that outputs one feature map, such as a ResNet.
        neck: The projector, with average pooling.
        head: What compares.
        **kwargs: See :class:`SelfSupervisor`.
    """

    preprocessor = 'TwoCropsDataPreprocessor'

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Embed both crops and compare.

        Args:
            inputs: ``images`` and ``second_crops``, two crops of the same images,
                normalised, (B, 3, H, W).
            data_samples: Unused.

        Returns:
            ``loss``.
        """
        first = embed(self, inputs['images'])
        second = self.embed_second(inputs['second_crops'])
        with torch.autocast(first.device.type, enabled=False):
            return dict(loss=self.compare(first.float(), second.float()))

    def embed_second(self, crops: Tensor) -> Tensor:
        """Embed the second crops, (B, 3, H, W), as the first."""
        return embed(self, crops)

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """The loss of the embeddings of both crops, float32, (B, D)."""
        raise NotImplementedError


@MODELS.register_module()
class SimCLRBaseline(SiameseSupervisor):
    """SimCLR (arXiv 2002.05709, sec. 2.1): find the other crop among all crops.

    Args:
        head: ``ContrastiveHead``, of which temperature and loss function count.
        **kwargs: See :class:`SiameseSupervisor`.
    """

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Contrast each of 2N crops of all processes with all but itself."""
        first, second = _Gather.apply(first), _Gather.apply(second)  # (N, D)
        crops = F.normalize(torch.cat([first, second]))  # (2N, D)
        logits = (crops @ crops.T / self.head.temperature).fill_diagonal_(-torch.inf)
        labels = torch.arange(len(crops), device=crops.device).roll(len(first))
        return self.head.loss_module(logits, labels)


@MODELS.register_module()
class SimSiamBaseline(SiameseSupervisor):
    """SimSiam (arXiv 2011.10566, sec. 3): predict the other crop, without gradient to it.

    Args:
        head: ``LatentPredictHead``.
        **kwargs: See :class:`SiameseSupervisor`.
    """

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Predict each crop from the other, the mean of both directions."""
        return (self.head.loss(first, second) + self.head.loss(second, first)) / 2


@MODELS.register_module()
class BarlowTwinsBaseline(SiameseSupervisor):
    """Barlow Twins (arXiv 2103.03230, sec. 2.1): decorrelate the features.

    Args:
        head: ``LatentCrossCorrelationHead``, of which norm and loss function count.
        **kwargs: See :class:`SiameseSupervisor`.
    """

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Correlate over the images of all processes."""
        first, second = (_Gather.apply(self.head.bn(crop)) for crop in (first, second))
        return self.head.loss_module(first.T @ second / len(first))  # of (D, D)


@MODELS.register_module()
class BYOLBaseline(MoCoV3Baseline):
    """BYOL (arXiv 2006.07733, sec. 3.1): predict the momentum encoder's other crop.

    It is MoCo v3 without negatives.

    Args:
        head: ``LatentPredictHead``.
        **kwargs: See :class:`MoCoV3Baseline`.
    """

    def contrast(self, own: Tensor, keys: Tensor) -> Tensor:
        """Predict the keys from the projections of the other crop, both (B, D)."""
        return self.head.loss(own, keys)


@MODELS.register_module()
class MoCoV2Baseline(SiameseSupervisor, MomentumSupervisor):
    """MoCo v2 (arXiv 2003.04297; 1911.05722, sec. 3): find the key among a queue.

    The keys of the last batches are the negatives. Batch norms are those of one process;
    the momentum encoder of each sees images of all, so that the statistics of a batch do
    not tell which key belongs to a query ("shuffling BN").

    Args:
        *args: See :class:`SiameseSupervisor`; the head is a ``ContrastiveHead``, of
            which temperature and loss function count.
        queue_len: Number of keys, Q.
        feat_dim: Their width, which is the neck's, D.
        **kwargs: See :class:`MomentumSupervisor`.
    """

    def __init__(self, *args, queue_len: int, feat_dim: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.register_buffer('queue', F.normalize(torch.randn(queue_len, feat_dim)))

    @torch.no_grad()
    def embed_second(self, crops: Tensor) -> Tensor:
        """Let the momentum encoder embed crops, (B, 3, H, W), of all processes, (N, D).

        Process r of W takes each W-th one from the r-th on; the keys are in order again.
        """
        shuffled = torch.cat(all_gather(crops))[get_rank() :: get_world_size()]
        keys = all_gather(embed(self.momentum_encoder, shuffled))
        return torch.stack(keys, dim=1).flatten(0, 1)

    def compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Contrast (B, D) with its keys of (N, D) and the queue.

        In training mode the keys go into the queue.
        """
        own, keys = F.normalize(first), F.normalize(second)
        negatives = self.queue.clone()  # the backward pass needs them as they are
        positives = (own * own_part(keys)).sum(dim=1, keepdim=True)  # (B, 1)
        logits = torch.cat([positives, own @ negatives.T], dim=1)  # (B, 1 + Q)
        labels = torch.zeros(len(own), dtype=torch.long, device=own.device)
        if self.training:
            enqueue(self.queue, keys)
        return self.head.loss_module(logits / self.head.temperature, labels)


@MODELS.register_module()
class SwAVBaseline(SelfSupervisor):
    """SwAV (arXiv 2006.09882, sec. 3): predict from a crop the clusters of other crops.

    The clusters are those of the two global crops, which are predicted from each other
    and from all local crops. They are assigned over the crops of all processes, and the
    queue is the same in each.

    Args:
        *args: See :class:`SelfSupervisor`; the neck is a ``SwAVNeck``, which projects
            crops of all sizes at once, and the head a ``SwAVHead``, of whose loss the
            prototypes, ``temperature``, ``epsilon`` and ``sinkhorn_iterations`` count.
        queue_len: Number of embeddings of the last batches, Q, of each of the two crops,
            which are assigned as well as soon as there are so many; 0 for none.
        queue_start: Number of batches before the first that goes into the queue.
        frozen_steps: Number of batches before the first that the prototypes learn from.
        **kwargs: See :class:`SelfSupervisor`.
    """

    preprocessor = 'MultiCropDataPreprocessor'

    def __init__(
        self, *args, queue_len: int, queue_start: int, frozen_steps: int, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.queue_start, self.frozen_steps = queue_start, frozen_steps
        width = self.head.loss_module.prototypes.in_features
        self.register_buffer('queue', torch.zeros(2, queue_len, width))
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Embed all crops, and predict clusters.

        Args:
            inputs: ``images`` and ``second_crops``, the global crops of the same images,
                (B, 3, H, W), and ``local_crops``, (B, N, 3, s, s), normalised.
            data_samples: Unused.

        Returns:
            ``loss``.
        """
        large = torch.cat([inputs['images'], inputs['second_crops']])  # (2 * B, ...)
        small = inputs['local_crops'].transpose(0, 1).flatten(0, 1)  # (N * B, 3, s, s)
        embeddings = self.neck([self.backbone(large), self.backbone(small)])
        with torch.autocast(embeddings.device.type, enabled=False):
            crops = F.normalize(embeddings.float()).split(len(inputs['images']))
            return dict(loss=self.compare(crops))

    def compare(self, crops: tuple[Tensor, ...]) -> Tensor:
        """Predict from each of V crops, (B, D), the assignments of the first two others.

        Returns:
            The mean over all pairs of crops.
        """
        head, weight = self.head.loss_module, self.head.loss_module.prototypes.weight
        if self.training:
            weight.detach().copy_(F.normalize(weight.detach()))  # (K, D)
        codes = [self.assign(*pair) for pair in zip(crops, self.queue)]
        # Frozen without a gradient of None, for which the host had to know the steps.
        weight = torch.where(self.steps < self.frozen_steps, weight.detach(), weight)
        scores = [crop @ weight.T / head.temperature for crop in crops]  # (B, K)
        self.steps += self.training
        pairs = [(v, i) for v in range(len(scores)) for i in (0, 1) if v != i]
        losses = [F.cross_entropy(scores[v], codes[i]) for v, i in pairs]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def assign(self, crops: Tensor, queue: Tensor) -> Tensor:
        """Spread the crops of all processes and the queue evenly over the prototypes.

        In training mode the crops go into the queue.

        Args:
            crops: Embeddings of length 1, (B, D).
            queue: Likewise, (Q, D), or zeros.

        Returns:
            Probabilities of the prototypes, (B, K).
        """
        head, everyone = self.head.loss_module, torch.cat(all_gather(crops))  # (N, D)
        codes = (head.prototypes(torch.cat([everyone, queue])) / head.epsilon).exp()
        codes[len(everyone) :] *= queue[-1:].any()  # (N + Q, K); not before it is full
        for _ in range(head.sinkhorn_iterations):
            codes = F.normalize(codes, p=1, dim=0)  # the same for each prototype,
            codes = F.normalize(codes, p=1, dim=1)  # and 1 for each crop
        if self.training:
            enqueue(queue, everyone * (self.steps >= self.queue_start))
        return own_part(codes[: len(everyone)])


class _Gather(torch.autograd.Function):
    """Gather (B, D) of all processes, (N, D), for a loss that each computes of all.

    Gradients are averaged over the processes, so that each counts its own part as often.
    """

    @staticmethod
    def forward(ctx: object, own: Tensor) -> Tensor:
        return torch.cat(all_gather(own.contiguous()))

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return own_part(grad) * get_world_size()


def own_part(gathered: Tensor) -> Tensor:
    """The rows of this process, (B, D), of those of all, (N, D)."""
    return gathered.chunk(get_world_size())[get_rank()]


def enqueue(queue: Tensor, keys: Tensor) -> None:
    """Put (N, D) in front of a queue (Q, D), in place; the oldest fall out."""
    queue.copy_(torch.cat([keys, queue])[: len(queue)])
