"""Mask R-CNN, ViT-S/16, COCO at 1024 px, 184,375 iterations.

C=configs/detection/vit-s_mask-rcnn_8xb8-184k_coco-1024.py
tools/dist_train.sh $C 8 --pretrained FILE
"""

_base_ = './vit-b_mask-rcnn_8xb8-184k_coco-1024.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/cim/vit-s_8xb256-300e/epoch_300_backbone.safetensors'
        ),
    ),
    neck=dict(in_channels=384),
)
