"""SimCLR, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/resnet50_simclr_8xb256-300e.py 8

The paper's recipe: LARS at 0.3 per 256 images, strong colours, temperature 0.1.
"""

_base_ = '../_base_/siamese_resnet50.py'

model = dict(
    type='SimCLRBaseline',
    backbone=_base_.backbone,
    neck=dict(_base_.projector, out_channels=128),
    head=dict(
        type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.1
    ),
)
colors = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
augment = dict(type='StrongAugment', **colors, blur_prob=0.5, solarize_prob=0.0)
data_preprocessor = dict(crop_augments=[augment, augment])
