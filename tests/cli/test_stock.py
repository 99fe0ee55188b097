# Copyright (c) mmcim contributors. All rights reserved.
"""What stands in for mmcim's parts in `mmcim benchmark --against stock`."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS

from mmcim.cli.stock import stock_pipeline
from mmcim.cli.synthetic import innermost_dataset

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize(
    'config',
    [
        'cim/vit-b_8xb256-300e.py',
        'baselines/vit-b_mocov3_8xb256-300e.py',  # two crops of an image
        'benchmarks/vit-b_finetune_8xb128-100e_in1k.py',
    ],
)
def test_stock_transforms_are_mmpretrains(config):
    init_default_scope('mmpretrain')
    ours = innermost_dataset(Config.fromfile(CONFIGS / config)).pipeline
    found = stock_pipeline(ours)
    assert [set(x) - {'backend'} for x in found] == [set(x) - {'backend'} for x in ours]
    views = [view for x in found for view in x.get('transforms', [])]
    used = [x for pipeline in (found[1:], *views) for x in pipeline]  # LoadImage stays
    places = {TRANSFORMS.build(x).__module__.split('.')[0] for x in used}
    assert places <= {'mmpretrain', 'mmcv'}
    crops = [x for x in used if x['type'] == 'RandomResizedCrop']
    assert crops and all(x['backend'] == 'pillow' for x in crops)
