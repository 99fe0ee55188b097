"""FCN, ResNet-50, CamVid at 480 x 360 px, 20,000 iterations, one GPU.

C=configs/segmentation/resnet50_fcn_1xb8-amp-20k_camvid-480x360.py
python tools/train.py $C --pretrained FILE
"""

_base_ = ['../_base_/models/fcn_resnet50.py', '../_base_/camvid_20k.py']

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/resnet50_8xb256-300e/epoch_300_backbone.safetensors',
        )
    ),
    decode_head=dict(num_classes=11, ignore_index=_base_.void),
    auxiliary_head=dict(num_classes=11, ignore_index=_base_.void),
)

optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(layer_decay_rate=0.9, stage_wise=True),
)
