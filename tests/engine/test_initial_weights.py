# Copyright (c) mmcim contributors. All rights reserved.
"""What a run starts from; normalization is in test_run_record.py."""

import pytest
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmpretrain.models.utils import CosineEMA
from torch import nn

from mmcim.engine.initial_weights import check_scope
from mmcim.models.layers.momentum import MomentumEncoder, momentum_encoder_of


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg', 'mmengine'])
def test_pretrained_of_the_scope_is_the_strict_one(scope):
    model = nn.Sequential(BaseModule(dict(type='Pretrained', checkpoint='a.pth')))
    with DefaultScope.overwrite_default_scope(scope):
        if scope != 'mmengine':
            return check_scope(model)
        with pytest.raises(ValueError, match=r"^0.init_cfg: .* set default_scope='mmpr"):
            check_scope(model)
        model[0].init_cfg = None
        check_scope(model)


def test_momentum_encoders_of_mmpretrain_update_themselves():
    model = nn.Module()
    model.backbone = nn.Linear(1, 1)
    model.momentum_encoder = CosineEMA(model.backbone, momentum=0.1)
    assert momentum_encoder_of(model) is None
    model.momentum_encoder = MomentumEncoder(model, ['backbone'])
    assert momentum_encoder_of(model) is model.momentum_encoder
