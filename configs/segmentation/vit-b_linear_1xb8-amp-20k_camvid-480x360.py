"""One linear layer on ViT-B/16, CamVid at 480 x 360 px, one GPU.

C=configs/segmentation/vit-b_linear_1xb8-amp-20k_camvid-480x360.py
python tools/train.py $C --pretrained FILE
"""

_base_ = ['../_base_/models/linear_vit-b.py', '../_base_/camvid_20k.py']

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        img_size=_base_.crop_size,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/vit-b_8xb256-300e/epoch_300_backbone.safetensors',
        ),
    ),
    decode_head=dict(num_classes=11, ignore_index=_base_.void),
    test_cfg=dict(_delete_=True, mode='whole'),
)
