"""Mask R-CNN, any ViT with patches of 16 px, your COCO-format folder, 2,000 iterations.

    mmcim train CONFIG --pretrained FILE

A CONFIG of your own inherits from this one and says where images and annotations are and
what the classes are; docs/detection.md shows it. What is 'auto' follows the file.
"""

_base_ = ['../_base_/models/mask-rcnn_vit-b.py', '../_base_/coco_lsj.py']

size = (512, 512)
model = dict(
    data_preprocessor=dict(pad_size_divisor=512),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.PretrainedBackbone',
        checkpoint='work_dirs/cim/vit-s_8xb256-300e/epoch_300_backbone.safetensors',
        img_size=512,
        window_size=16,
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels='auto'),
    roi_head=dict(bbox_head=dict(num_classes='auto'), mask_head=dict(num_classes='auto')),
)

jitter = {**_base_.jitter, 'scale': size, 'ratio_range': (0.5, 2.0)}
crop = {**_base_.crop, 'crop_size': size}
resize = {**_base_.resize, 'scale': size}
folder = dict(
    data_root='data/coco-folder/',
    metainfo=dict(classes=('object',)),
    data_prefix=dict(img='images/'),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    dataset=dict(
        **folder,
        ann_file='train.json',
        filter_cfg=dict(min_size=1),
        pipeline=[_base_.load, _base_.annotate, jitter, crop, *_base_.finish],
    ),
)
val_dataloader = dict(
    dataset=dict(
        **folder,
        ann_file='val.json',
        pipeline=[_base_.load, resize, _base_.annotate, _base_.pack],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/coco-folder/val.json')
test_evaluator = val_evaluator

train_cfg = dict(max_iters=2000, val_interval=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='MultiStepLR', milestones=[1500, 1800], by_epoch=False),
]
auto_scale_lr = dict(enable=False)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=500, max_keep_ckpts=1)
)
