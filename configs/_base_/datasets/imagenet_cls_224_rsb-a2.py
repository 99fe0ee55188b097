# ImageNet-1k in procedure A2 of "ResNet strikes back": RandAugment m7, each image
# three times in a batch, tested with a crop of 0.95.
_base_ = ['imagenet_cls_224.py', 'imagenet_cls_rsb-augment.py']

train_pipeline = [
    *_base_.train_pipeline[:-1],
    {**_base_.rand_augment, 'magnitude_level': 7},
    _base_.train_pipeline[-1],
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(
        type='ResizeEdge',
        scale=236,
        edge='short',
        interpolation='bicubic',
        backend='pillow',
    ),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=256,
    sampler=dict(type='RepeatAugSampler'),
    dataset=dict(dataset=dict(pipeline=train_pipeline)),
)
val_dataloader = dict(batch_size=256, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
