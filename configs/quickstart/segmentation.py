"""Quickstart, step 3: segment scenes of digits with UperNet, 40 labelled scenes.

tools/quickstart.py runs it for each pre-training and for random weights, three seeds
each. Random weights: --cfg-options model.backbone.init_cfg=None
"""

_base_ = [
    '../_base_/models/quickstart_segmentor.py',
    '../_base_/datasets/digits_seg.py',
    '../_base_/schedules/quickstart_segmentation.py',
    '../_base_/seg_runtime.py',
]

model = dict(data_preprocessor=_base_.data_preprocessor)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20, max_keep_ckpts=1, save_best=None),
    # The scenes are in no files.
    visualization=dict(type='mmpretrain.InputVisualizationHook'),
)
log_processor = dict(window_size=10)
randomness = dict(seed=0)
