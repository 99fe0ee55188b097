"""UperNet, ViT-Tiny/16, CamVid at 240 x 180 px, 400 iterations, minutes on a CPU.

    C=configs/segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180.py
    python tools/train.py $C

From random weights. From a pre-trained backbone: --cfg-options
model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/camvid_240x180.py',
    '../_base_/schedules/seg_400i.py',
    '../_base_/seg_runtime.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(arch='deit-tiny', img_size=_base_.crop_size),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=64, num_classes=11),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=11),
    test_cfg=dict(_delete_=True, mode='whole'),
)

default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1)
)
randomness = dict(seed=0)
