"""Mask R-CNN with FPN, ResNet-50, COCO at 1024 px, 184,375 iterations.

    C=configs/detection/resnet50_mask-rcnn_8xb8-184k_coco-1024.py
    tools/dist_train.sh $C 8 --pretrained FILE

Recipe: SGD as mmdetection has it for 100 epochs of large-scale jitter; its schedule is
ViTDet's.
"""

_base_ = ['../_base_/models/mask-rcnn_resnet50.py', '../_base_/coco_lsj.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/resnet50_8xb256-300e/epoch_300_backbone.safetensors',
        )
    ),
)
optim_wrapper = dict(
    constructor='mmpretrain.NetworkwiseOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True),
    optimizer=dict(_delete_=True, type='SGD', lr=0.1, momentum=0.9, weight_decay=4e-5),
)
