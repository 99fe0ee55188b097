"""UperNet, ViT-S/16 of CIM-ResPix, ADE20K at 512 px, 160,000 iterations.

    tools/dist_train.sh configs/segmentation/vit-s_upernet_8xb2-160k_ade20k-512x512.py 8

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = [
    '../_base_/models/upernet_vit-s.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/seg_160k.py',
    '../_base_/seg_runtime.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/vit-s_8xb256-300e/epoch_300_backbone.safetensors',
        )
    ),
)
