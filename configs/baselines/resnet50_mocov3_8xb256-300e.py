"""MoCo v3, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/resnet50_mocov3_8xb256-300e.py 8

The released recipe of 300 epochs (72.8 by a linear probe): LARS at 0.3 per 256 images,
temperature 1, crops from 0.2.
"""

_base_ = '../_base_/siamese_resnet50.py'

mlp = dict(hid_channels=4096, out_channels=256)
model = dict(
    type='MoCoV3Baseline',
    backbone=dict(_base_.backbone, zero_init_residual=False),
    neck=dict(_base_.projector, **mlp, with_last_bn_affine=False),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(_base_.predictor, **mlp, in_channels=256, with_last_bn=False),
        loss=dict(type='CrossEntropyLoss', loss_weight=2.0),
        temperature=1.0,
    ),
    momentum=0.99,
)
crop = {**_base_.crop, 'crop_ratio_range': (0.2, 1.0)}
train_pipeline = [_base_.load, {**_base_.views, 'transforms': [[crop]]}, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
