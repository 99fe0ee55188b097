"""CIM-ResPix, a ResNet, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = './vit_cim_respix.py'

model = dict(
    enhancer=dict(
        backbone=dict(_delete_=True, type='ResNet', **_base_.resnet),
        neck=dict(in_channels=_base_.resnet_width, encoder_stride=32),
    )
)
sync_bn = 'torch'
