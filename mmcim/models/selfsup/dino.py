# Copyright (c) mmcim contributors. All rights reserved.
"""DINO: self-distillation with no labels (arXiv 2104.14294)."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import BaseModule, is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.models.utils import build_norm_layer
from mmpretrain.registry import HOOKS, MODELS
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..layers.momentum import MomentumEncoder
from .base import MomentumSupervisor


@MODELS.register_module()
class DINO(MomentumSupervisor):
    """A student that predicts, from any crop, what its teacher makes of another one.

    The teacher is the momentum encoder and sees the two global crops; the student sees
    the local crops as well. Both have a projector. The teacher's outputs are centred and
    sharpened, so that they collapse neither to a uniform distribution nor to one output.
    The teacher's backbone is exported, which the authors evaluate.

    :class:`DINOHook` has to be among the ``custom_hooks``: it raises the teacher's
    temperature and freezes the last layer at first.

    Args:
        backbone: A ViT that outputs its class token and takes images of any size, such as
            mmpretrain's ``VisionTransformer``. Its drop path is the student's alone.
        neck: The projector, :class:`DINONeck`.
        head: :class:`DINOHead`.
        momentum: Of the teacher at the start of training.
        **kwargs: See :class:`MomentumSupervisor`.
    """

    preprocessor = 'MultiCropDataPreprocessor'
    backbone_prefix = 'momentum_encoder.backbone.'
    """Prefix of the exported backbone's tensors."""

    def __init__(
        self, backbone: dict, neck: dict, head: dict, momentum: float = 0.996, **kwargs
    ) -> None:
        super().__init__(backbone, neck, head, momentum=momentum, **kwargs)

    def train(self, mode: bool = True) -> 'DINO':
        """Set the mode; the teacher's backbone stays in eval mode, without drop path."""
        super().train(mode)
        self.momentum_encoder.backbone.eval()
        return self

    def loss(self, inputs: dict, data_samples: list | None = None) -> dict[str, Tensor]:
        """Crop, project by teacher and student, compare.

        Args:
            inputs: ``images`` and ``second_crops``, the global crops of the same images,
                (B, 3, H, W), and ``local_crops``, (B, N, 3, s, s), normalised.
            data_samples: Unused.

        Returns:
            ``loss``, see :class:`DINOHead`.
        """
        crops = [inputs['images'], inputs['second_crops']]
        global_crops, local_crops = torch.stack(crops, dim=1), inputs['local_crops']
        with torch.no_grad():
            teacher = self._project(self.momentum_encoder, [global_crops])  # (B, 2, K)
        student = self._project(self, [global_crops, local_crops])  # (B, 2 + N, K)
        return self.head.loss(student, teacher)

    @staticmethod
    def _project(
        modules: MomentumSupervisor | MomentumEncoder, crops: list[Tensor]
    ) -> Tensor:
        """Encode the crops of one size after the other, and project all of them at once.

        Args:
            modules: The student or the teacher.
            crops: Of each size, (B, V_i, 3, H_i, W_i).

        Returns:
            (B, V, K) of all V crops.
        """
        tokens = [
            modules.backbone(views.flatten(0, 1))[-1].unflatten(0, views.shape[:2])
            for views in crops
        ]
        features = torch.cat(tokens, dim=1)  # (B, V, C)
        (projected,) = modules.neck((features.flatten(0, 1),))  # (B * V, K)
        return projected.unflatten(0, features.shape[:2])


@MODELS.register_module()
class DINONeck(BaseModule):
    """The projector: three layers, L2 norm, and a weight-normalised last layer.

    Its outputs are cosines of a feature of length 1 and K prototypes, times the length
    of the prototype. They are computed in float32.

    Args:
        in_channels: Width of the features.
        hid_channels: Width of the two hidden layers.
        bottleneck_channels: Width in front of the last layer.
        out_channels: Number of outputs K.
        norm_cfg: Normalisation of the hidden layers, such as ``dict(type='BN1d')``. None
            as in the authors' models with ViTs.
        norm_last_layer: Whether the prototypes keep the length 1; otherwise it is
            learned, which the authors call unsafe for larger networks than ViT-S.
        init_cfg: See :class:`mmengine.model.BaseModule`. Defaults to a truncated normal
            distribution of 0.02 for the three layers.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int = 2048,
        bottleneck_channels: int = 256,
        out_channels: int = 65536,
        norm_cfg: dict | None = None,
        norm_last_layer: bool = True,
        init_cfg: dict | None = dict(type='TruncNormal', layer='Linear', std=0.02),  # noqa: B006
    ) -> None:
        super().__init__(init_cfg)
        layers: list[nn.Module] = []
        for channels in (in_channels, hid_channels):
            layers.append(nn.Linear(channels, hid_channels))
            if norm_cfg is not None:
                layers.append(build_norm_layer(norm_cfg, hid_channels))
            layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers, nn.Linear(hid_channels, bottleneck_channels))
        last_layer = nn.Linear(bottleneck_channels, out_channels, bias=False)
        self.last_layer = weight_norm(last_layer)
        lengths = self.last_layer.parametrizations.weight.original0  # (K, 1)
        nn.init.ones_(lengths)
        lengths.requires_grad = not norm_last_layer

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Project class tokens, (B, C) -> (B, K), in float32."""
        x = self.mlp(features[-1])
        # Over a temperature of 0.04 cosines need more digits than bfloat16 has.
        with torch.autocast(x.device.type, enabled=False):
            return (self.last_layer(F.normalize(x.float(), dim=-1)),)


@MODELS.register_module()
class DINOHead(BaseModule):
    """Cross-entropy between crops, with a centred and sharpened teacher (sec. 3.1).

    With teacher outputs t and student outputs s of the crops of an image, the loss is the
    mean over its pairs of a global crop g and another crop v of

    ``-sum_k softmax((t_g - c) / tau_t)_k log softmax(s_v / tau_s)_k``,

    and over images. The centre c is a moving average of the teacher's outputs over all
    images of all processes; a step of training moves it after its loss.

    Args:
        out_channels: Number of outputs K.
        student_temperature: tau_s.
        teacher_temperature: tau_t at the start; :class:`DINOHook` changes it.
        center_momentum: The fraction of c that a step keeps.
    """

    def __init__(
        self,
        out_channels: int = 65536,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        # A tensor: a number that changes would compile the loss again.
        self.register_buffer('teacher_temperature', torch.tensor(teacher_temperature))
        self.register_buffer('center', torch.zeros(out_channels))

    def loss(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare all crops of an image with its global crops.

        Args:
            student: Float32, (B, V, K); the first two of the V crops are the global ones.
            teacher: Of the global crops, float32, (B, 2, K), without gradient.

        Returns:
            ``loss``.
        """
        target = ((teacher - self.center) / self.teacher_temperature).softmax(dim=-1)
        log_probs = (student / self.student_temperature).log_softmax(dim=-1)
        # Autocast would round the probabilities to bfloat16.
        with torch.autocast(student.device.type, enabled=False):
            pairs = -torch.einsum('bgk,bvk->gv', target, log_probs)  # (2, V)
        different = pairs.sum() - pairs.trace()  # of two different crops
        count = pairs.numel() - len(pairs)
        if self.training:
            self._move_center(teacher)
        return dict(loss=different / (count * len(student)))

    @torch.no_grad()
    def _move_center(self, teacher: Tensor) -> None:
        mean = teacher.mean(dim=(0, 1))
        all_reduce(mean, op='mean')
        self.center.lerp_(mean, 1 - self.center_momentum)


@HOOKS.register_module()
class DINOHook(Hook):
    """What changes during a training of :class:`DINO`, beside the rates.

    The teacher's temperature rises linearly, and the last layer gets no step at first.
    Both follow from the epoch or iteration of the run.

    Args:
        teacher_temperature: At the start and after ``warm_up``.
        warm_up: Epochs in which it rises from the one to the other.
        freeze: Epochs in which the last layer is frozen.
        by_epoch: False counts iterations in place of epochs.
    """

    def __init__(
        self,
        teacher_temperature: tuple[float, float] = (0.04, 0.07),
        warm_up: int = 30,
        freeze: int = 1,
        by_epoch: bool = True,
    ) -> None:
        self.teacher_temperature = teacher_temperature
        self.warm_up = warm_up
        self.freeze = freeze
        self.by_epoch = by_epoch

    def before_train(self, runner: Runner) -> None:
        """Drop the last layer's gradient in front of the first steps."""
        last_layer = self._model(runner).neck.last_layer

        def drop(*_: Any) -> None:
            if self._now(runner) < self.freeze:
                last_layer.zero_grad()  # to None: neither decay nor moments

        runner.optim_wrapper.optimizer.register_step_pre_hook(drop)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Set the temperature of this epoch or iteration."""
        start, end = self.teacher_temperature
        done = min(self._now(runner) / max(self.warm_up - 1, 1), 1.0)
        self._model(runner).head.teacher_temperature.fill_(start + (end - start) * done)

    def _now(self, runner: Runner) -> int:
        return runner.epoch if self.by_epoch else runner.iter

    @staticmethod
    def _model(runner: Runner) -> DINO:
        return runner.model.module if is_model_wrapper(runner.model) else runner.model
