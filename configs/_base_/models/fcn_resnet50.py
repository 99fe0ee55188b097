# FCN on ResNet-50 with stride 8: dilation instead of stride in the last two stages, as in
# mmsegmentation. Its auxiliary head is that of UperNet.
_base_ = 'upernet_resnet50.py'

model = dict(
    backbone=dict(
        type='mmpretrain.DilatedResNet',
        out_indices=(2, 3),
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
    ),
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=2048,
        in_index=1,
        channels=512,
        num_convs=2,
        concat_input=True,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=dict(in_index=0),
)
