"""Barlow Twins, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/resnet50_barlowtwins_8xb256-300e.py 8

The released recipe, of 1000 epochs there: LARS at 0.2 per 256 images, 0.0048 for biases
and norms.
"""

_base_ = '../_base_/siamese_resnet50.py'

mlp = dict(hid_channels=8192, out_channels=8192, num_layers=3)
model = dict(
    type='BarlowTwinsBaseline',
    backbone=_base_.backbone,
    neck=dict(_base_.projector, **mlp, with_last_bn=False),
    head=dict(
        type='LatentCrossCorrelationHead',
        in_channels=8192,
        loss=dict(type='CrossCorrelationLoss', lambd=0.0051),
    ),
)

slow = dict(_base_.excluded, lr_mult=0.024)
optim_wrapper = dict(
    optimizer=dict(lr=1.6),
    paramwise_cfg=dict(custom_keys={'bn': slow, 'bias': slow, 'downsample.1': slow}),
)
param_scheduler = [_base_.warm_up, {**_base_.cosine, 'eta_min_ratio': 1e-3}]
