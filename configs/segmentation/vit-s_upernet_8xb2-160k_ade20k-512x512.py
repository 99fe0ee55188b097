"""UperNet, ViT-S/16, ADE20K at 512 px, 160,000 iterations.

C=configs/segmentation/vit-s_upernet_8xb2-160k_ade20k-512x512.py
tools/dist_train.sh $C 8 --pretrained FILE
"""

_base_ = './vit-b_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/cim/vit-s_8xb256-300e/epoch_300_backbone.safetensors'
        ),
    ),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=512),
    auxiliary_head=dict(in_channels=512),
)
