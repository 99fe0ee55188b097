# Imagenette at 128 px in procedure A2 of "ResNet strikes back".
_base_ = ['imagenette_cls_128.py', 'imagenet_cls_rsb-augment.py']

train_pipeline = [
    *_base_.train_pipeline[:-1],
    {**_base_.rand_augment, 'magnitude_level': 7},
    _base_.train_pipeline[-1],
]
train_dataloader = dict(
    sampler=dict(type='RepeatAugSampler'),
    dataset=dict(dataset=dict(pipeline=train_pipeline)),
)
