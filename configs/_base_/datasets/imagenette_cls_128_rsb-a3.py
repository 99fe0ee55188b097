# Imagenette at 128 px in procedure A3 of "ResNet strikes back"; trained and tested at
# one size.
_base_ = ['imagenette_cls_128.py', 'imagenet_cls_rsb-augment.py']

train_pipeline = [
    *_base_.train_pipeline[:-1],
    {**_base_.rand_augment, 'magnitude_level': 6},
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
