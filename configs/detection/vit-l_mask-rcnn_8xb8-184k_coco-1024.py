"""Mask R-CNN, ViT-L/16, COCO at 1024 px, 184,375 iterations.

C=configs/detection/vit-l_mask-rcnn_8xb8-184k_coco-1024.py
tools/dist_train.sh $C 8 --pretrained FILE

Recipe: ViTDet's. From random weights where no file is given.
"""

_base_ = './vit-b_mask-rcnn_8xb8-184k_coco-1024.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.4, init_cfg=None),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
activation_checkpointing = ['backbone']  # 100 GiB at 8 images without
