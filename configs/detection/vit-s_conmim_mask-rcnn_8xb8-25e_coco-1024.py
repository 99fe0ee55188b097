"""Mask R-CNN, ViT-S/16 of ConMIM, COCO at 1024 px, 25 epochs.

C=configs/detection/vit-s_conmim_mask-rcnn_8xb8-25e_coco-1024.py
tools/dist_train.sh $C 8 --pretrained FILE
"""

_base_ = './vit-b_conmim_mask-rcnn_8xb8-25e_coco-1024.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/conmim/vit-s_conmim_8xb256-300e/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    neck=dict(in_channels=384),
)
