"""MoCo v3, a ResNet, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = './vit_mocov3.py'

hidden = 4 * _base_.resnet_width
model = dict(
    backbone=dict(_delete_=True, type='ResNet', **_base_.resnet),
    neck=dict(in_channels=_base_.resnet_width, hid_channels=hidden, with_avg_pool=True),
    head=dict(predictor=dict(hid_channels=hidden)),
)
