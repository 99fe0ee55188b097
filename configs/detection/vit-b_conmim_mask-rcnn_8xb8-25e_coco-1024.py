"""Mask R-CNN, ViT-B/16 of ConMIM, COCO at 1024 px, 25 epochs.

    C=configs/detection/vit-b_conmim_mask-rcnn_8xb8-25e_coco-1024.py
    tools/dist_train.sh $C 8 --pretrained FILE

Recipe: MIMDet's, which ConMIM follows: windows of 16 patches, synchronised batch norms,
no layer-wise decay. After MAE it has 48.0 box AP, and 50.2 in 50 epochs, 50.4 in 100. It
takes BEiT's file as well.
"""

_base_ = ['../_base_/models/mask-rcnn_resnet50.py', '../_base_/coco_lsj.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.WindowedBEiTViT',
        arch='deit-base',
        window_size=16,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/conmim/vit-b_conmim_8xb256-300e/'
            'epoch_300_backbone.safetensors',
        ),
    ),
    neck=dict(
        _delete_=True,
        type='mmpretrain.SimpleFeaturePyramid',
        in_channels=768,
        norm_cfg=dict(type='BN'),
    ),
)
train_dataloader = dict(sampler=dict(type='DefaultSampler'))
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=25, val_interval=5)
optim_wrapper = dict(
    constructor='mmpretrain.NetworkwiseOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True),
    optimizer=dict(lr=8e-5),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, end=0.25, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=0.25, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
log_processor = dict(by_epoch=True)
