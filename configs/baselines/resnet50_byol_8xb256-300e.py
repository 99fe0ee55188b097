"""BYOL, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/resnet50_byol_8xb256-300e.py 8

The paper's recipe of 300 epochs: LARS at 0.3 per 256 images, momentum from 0.99.
"""

_base_ = '../_base_/siamese_resnet50.py'

mlp = dict(hid_channels=4096, out_channels=256, with_bias=True, with_last_bn=False)
model = dict(
    type='BYOLBaseline',
    backbone=dict(_base_.backbone, zero_init_residual=False),
    neck=dict(_base_.projector, **mlp),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(_base_.predictor, in_channels=256, **mlp),
        # 2 - 2 cos, of both directions.
        loss=dict(type='CosineSimilarityLoss', shift_factor=2.0, scale_factor=2.0),
    ),
    momentum=0.99,
)
