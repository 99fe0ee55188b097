"""UperNet, ViT-B/16, CamVid at 480 x 360 px, 20,000 iterations, one GPU.

    C=configs/segmentation/vit-b_upernet_1xb8-amp-20k_camvid-480x360.py
    python tools/train.py $C --pretrained FILE

Whole images are tested, as the position embeddings follow their size.
"""

_base_ = ['../_base_/models/upernet_vit-b.py', '../_base_/camvid_20k.py']

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
    auxiliary_head=dict(num_classes=11, ignore_index=_base_.void),
    test_cfg=dict(_delete_=True, mode='whole'),
)
