# COCO 2017's instances at 1024 px with large-scale jitter, from the official zips:
# docs/detection.md has the commands.
# Trained as in ViTDet: batches of 64, 184,375 iterations (100 epochs).
_base_ = ['mmdet::_base_/datasets/coco_instance.py', './default_runtime.py']

default_scope = 'mmdet'
size = (1024, 1024)
load, resize, annotate, pack = _base_.test_pipeline
resize = {**resize, 'scale': size}
jitter = dict(type='RandomResize', scale=size, ratio_range=(0.1, 2.0), keep_ratio=True)
crop = dict(
    type='RandomCrop', crop_size=size, recompute_bbox=True, allow_negative_crop=True
)
finish = [
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_pipeline = [load, annotate, jitter, crop, *finish]
test_pipeline = [load, resize, annotate, pack]

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='InfiniteSampler'),
    batch_sampler=None,  # all images are padded to one size
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=4, persistent_workers=False, dataset=dict(pipeline=test_pipeline)
)
test_dataloader = val_dataloader

train_cfg = dict(type='IterBasedTrainLoop', max_iters=184375, val_interval=18438)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmpretrain.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', milestones=[163889, 177546], by_epoch=False),
]
auto_scale_lr = dict(enable=True, base_batch_size=64)
default_hooks = dict(
    checkpoint=dict(type='mmpretrain.SafeCheckpointHook', by_epoch=False, interval=18438),
    backbone_export=dict(type='mmpretrain.BackboneExportHook'),
    # tools/test.py --show-dir turns it on.
    visualization=dict(_delete_=True, type='DetVisualizationHook'),
)
visualizer = dict(type='DetLocalVisualizer')
log_processor = dict(by_epoch=False)
sync_bn = 'torch'
