# ImageNet-1k with the augmentation of BEiT's fine-tuning.
_base_ = ['imagenet_cls_224.py', 'imagenet_cls_beit-augment.py']

train_pipeline = [
    *_base_.train_pipeline[:-1],
    *_base_.augment,
    _base_.train_pipeline[-1],
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
