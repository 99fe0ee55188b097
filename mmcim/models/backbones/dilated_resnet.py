# Copyright (c) mmcim contributors. All rights reserved.
"""A ResNet for dense prediction."""

from typing import Any

from mmpretrain.models.backbones import ResNet
from mmpretrain.registry import MODELS
from torch import nn


@MODELS.register_module()
class DilatedResNet(ResNet):
    """mmpretrain's ``ResNet`` whose dilation begins as in mmsegmentation's.

    Where dilation replaces a stride, the first block of a stage sees what it saw in
    pre-training only with the dilation of the stage before.

    Args:
        contract_dilation: Whether the first block of a dilated stage has half of the
            stage's dilation.
        **kwargs: See :class:`mmpretrain.models.ResNet`.
    """

    def __init__(self, contract_dilation: bool = False, **kwargs) -> None:
        self.contract_dilation = contract_dilation
        super().__init__(**kwargs)

    def make_res_layer(self, **kwargs: Any) -> nn.Sequential:
        """Build a stage; mmpretrain's constructor calls it."""
        stage = super().make_res_layer(**kwargs)
        if self.contract_dilation and kwargs['dilation'] > 1:
            for conv in (stage[0].conv1, stage[0].conv2):
                if conv.dilation != (1, 1):
                    conv.dilation = conv.padding = (kwargs['dilation'] // 2,) * 2
        return stage
