"""UperNet, ViT-S/16, CamVid at 480 x 360 px, 20,000 iterations, one GPU.

    C=configs/segmentation/vit-s_upernet_1xb8-amp-20k_camvid-480x360.py
    python tools/train.py $C --pretrained FILE

A ViT-S/8, as that of configs/cim/vit-s_1xb128-300e_imagenette-128.py, fits as well.
"""

_base_ = './vit-b_upernet_1xb8-amp-20k_camvid-480x360.py'

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
