"""Mask R-CNN, ViT-L/16 of ConMIM, COCO at 1024 px, 25 epochs.

C=configs/detection/vit-l_conmim_mask-rcnn_8xb8-25e_coco-1024.py
tools/dist_train.sh $C 8 --pretrained FILE
"""

_base_ = './vit-b_conmim_mask-rcnn_8xb8-25e_coco-1024.py'

model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.4,
        init_cfg=dict(
            checkpoint='work_dirs/conmim/vit-l_conmim_32xb64-1600e/'
            'epoch_1600_backbone.safetensors'
        ),
    ),
    neck=dict(in_channels=1024),
)
activation_checkpointing = ['backbone']  # 100 GiB at 8 images without
