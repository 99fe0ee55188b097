"""ResNet-50 on ImageNet-1k from scratch, supervised, RSB A3, 100 epochs.

tools/dist_train.sh configs/baselines/resnet50_scratch_rsb-a3_8xb256-100e_in1k.py 8
"""

_base_ = '../benchmarks/resnet50_rsb-a3_8xb256-100e_in1k.py'

model = dict(
    backbone=dict(
        init_cfg=[
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', layer='_BatchNorm', val=1.0),
        ]
    )
)
