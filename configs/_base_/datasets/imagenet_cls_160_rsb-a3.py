# ImageNet-1k in procedure A3 of "ResNet strikes back": trained at 160 px (mmpretrain's
# file says 224), tested at 224, RandAugment m6, no repeats.
_base_ = 'imagenet_cls_224_rsb-a2.py'

train_pipeline = [
    dict(type='LoadImage', ignore_empty=True),
    dict(type='RandomResizedCrop', scale=160, interpolation='bicubic', backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    {**_base_.rand_augment, 'magnitude_level': 6},
    dict(type='PackInputs'),
]

train_dataloader = dict(
    sampler=dict(type='DefaultSampler'),
    dataset=dict(dataset=dict(pipeline=train_pipeline)),
)
